"""Messages about parameters that are unknown or have an invalid value."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from kedro.validation import ParameterValidationError
from pydantic import BaseModel, ValidationError

from cxr_pipeline.common.errors import UserError, did_you_mean
from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.framework.config import Parameters, TaskParameters
from cxr_pipeline.framework.config_loader import task_names

# Kinds of pydantic's errors about a key that a model and that a dataclass does not have.
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
PYDANTIC_ERROR = re.compile(
    r"^(?:(\S+)\n)?  (.+) \[type=(\w+), input_value=(.*), input_type=\w+\]$", flags=re.MULTILINE
)
# Parameters beside those of the tasks; a run sets `cell` for the runs that it starts.
SHARED = ("raw", "folders", "cell")


def check_parameters(parameters: Mapping[str, Any], given: Mapping[str, Any], task: str | None) -> None:
    """Check the parameters of all tasks, and that a run of ``task`` reads those given on the command line.

    Raises:
        UserError: a parameter belongs to nothing, or one of the command line to another task than that of the run.
        ParameterValidationError: the task has an unknown parameter or an invalid value, in any of its blocks.
    """
    for key in flatten({name: block for name, block in parameters.items() if name not in (*task_names(), *SHARED)}):
        raise UserError(f"{key}: unknown parameter.{_suggestion(key, task)}")
    for key in flatten({name: block for name, block in given.items() if name not in (task, *SHARED)}):
        name = key.partition(".")[0]
        raise UserError(
            f"{key}: this run does not read the parameters of {name}. Remove it, or run kedro run --pipeline={name}."
        )
    if task is None:
        return
    if "task" not in parameters.get(task, {}):
        raise UserError(
            f"The configuration has no task {task}. Expected a block {task} in conf/base/parameters/tasks.yml, or in "
            "the environment of the run: with --env, conf/local is not read."
        )
    if (name := parameters[task]["task"].get("name")) != task:
        raise UserError(f"{task}.task.name: expected {task}, as its block is named, found {name!r}. Omit it.")
    try:
        TaskParameters.model_validate(parameters[task])
    except ValidationError as error:
        raise ParameterValidationError(f"- Parameter '{task}': {error}") from error


def explain_parameters(message: str) -> str:
    """Rewrite the message of Kedro's ``ParameterValidationError`` with one line for each invalid parameter."""
    lines = []
    for block in re.split(r"^- ", message, flags=re.MULTILINE)[1:]:
        name = re.match(r"Parameter '(.+?)': ", block)
        for location, text, kind, value in PYDANTIC_ERROR.findall(block):
            key = ".".join(filter(None, (name.group(1) if name else "", location)))
            lines.append(f"{key}: {_reason(key, text, kind, value)}")
    return "\n".join(lines) or message


def _reason(key: str, text: str, kind: str, value: str) -> str:
    if kind == "value_error":
        return f"{text.removeprefix('Value error, ')}."
    if kind == "missing":
        return "expected a value, found none."
    if wrong := re.match(r"Input tag '(.+)' found using '(\w+)' .*: (.+)", text):
        known = wrong[3].replace("'", "")
        return f"expected one of {known} as {wrong[2]}, found '{wrong[1]}'.{did_you_mean(wrong[1], known.split(', '))}"
    if absent := re.match(r"Unable .* discriminator '(\w+)'", text):
        return f"expected a {absent[1]}, found none."
    if kind not in UNKNOWN:
        return f"{text.partition(', unable to ')[0].removeprefix('Input ')}, found {value}."
    return f"unknown parameter.{_suggestion(key, key.partition('.')[0])}"


def _suggestion(key: str, task: str | None) -> str:
    """Return a question for the known parameter that is nearest to an unknown one; empty if none is near."""
    first, _, rest = key.partition(".")
    near = []
    if first != task and rest:
        near = [f"{name}.{rest}" for name in get_close_matches(first, task_names(), n=1, cutoff=0.75)]
    if not near:
        block, _, last = key.rpartition(".")
        paths = [path.rpartition(".") for path in _paths(TaskParameters, f"{task or 'TASK'}.")]
        near = get_close_matches(last, [name for parent, _, name in paths if parent == block], n=1, cutoff=0.8)
        # A right name in the wrong place is found however long its path is.
        places = [f"{parent}.{name}" for parent, _, name in paths if name == last]
        near = near or get_close_matches(key, places, n=1, cutoff=0) or get_close_matches(last, _names() - {last}, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _names() -> set[str]:
    blocks: list[type[BaseModel]] = [Parameters]
    for block in blocks:
        blocks += block.__subclasses__()
    return {
        "raw",
        *(name for block in blocks for name in block.model_fields),
        *(field.name for field in fields(Columns)),
    }


def _paths(block: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the parameters of a block."""
    for name, field in block.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
