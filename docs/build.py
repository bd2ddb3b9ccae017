"""Generated parts of the documentation: a hook of MkDocs and an extension of mkdocstrings, named in ``mkdocs.yml``.

A line ``<!-- generated: NAME -->`` of a page is replaced by what the function ``NAME`` returns.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, cleandoc, getdoc, isclass, signature
from pathlib import Path
from typing import Annotated, Any

import click
import griffe
import yaml
from pydantic import BaseModel, TypeAdapter

from cxr_pipeline.cli import cli
from cxr_pipeline.data.images.morphology import OPERATIONS
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.framework.config import Folders, TaskParameters

PARAMETERS = Path(__file__).parents[1] / "conf" / "base" / "parameters"
REQUIRED = object()
TYPES = {"boolean": "true or false", "string": "text", "object": "block", "null": "null"}
NUMBERS = {"integer": "integer", "number": "number"}
HEADER = ("parameter", "type", "default", "unit", "meaning")
SOURCES = """Sources by name, each with its `layout`, its `path` (absolute or relative to `raw`) and the options of the
layout; null disables a source. [Layouts](../guides/layouts.md) shows examples."""
Row = tuple[str, str, str, str, str]


class Extension(griffe.Extension):
    """Reads a section ``Example:`` as ``Examples:``, the only name that griffe knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the generated parts of a page."""
    return re.sub(r"^<!-- generated: (\w+) -->$", lambda found: GENERATED[found[1]](), markdown, flags=re.MULTILINE)


def parameters() -> str:
    """Return a section for each block of parameters of a task, with a table."""
    defaults = yaml.safe_load((PARAMETERS / "defaults.yml").read_text("utf-8"))["defaults"]
    sections = []
    for name, field in TaskParameters.model_fields.items():
        block: Any = field.annotation
        if name == "sources":
            sections.append(f"## sources\n\n{SOURCES}\n\n{sources()}")
            continue
        rows = list(rows_of(block, defaults.get(name, {})))
        sections.append(f"## {name}\n\n{summary(block)}\n\n{table(HEADER, rows)}")
        if name == "morphology":
            sections.append(operations())
    return "\n\n".join(sections)


def folders() -> str:
    """Return the table of the folders that all tasks share."""
    given = yaml.safe_load((PARAMETERS / "parameters.yml").read_text("utf-8"))
    return table(HEADER, rows_of(Folders, given["folders"]))


def rows_of(block: type[BaseModel], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Yield a row for each parameter of a block, and of the blocks in it."""
    documented = meanings(block)
    for name, field in block.model_fields.items():
        default = defaults.get(name, REQUIRED if field.is_required() else field.default)
        unit, meaning = documented[name]
        if isclass(kind := field.annotation) and issubclass(kind, BaseModel):
            yield (f"`{prefix}{name}`", "block", "", unit, meaning)
            yield from rows_of(kind, default, f"{prefix}{name}.")
        else:
            schema = TypeAdapter(Annotated[kind, field]).json_schema()  # type: ignore[arg-type]
            yield (f"`{prefix}{name}`", type_of(schema), shown(default), unit, meaning)


def sources() -> str:
    """Return the tables of the options of each layout."""
    documented = {f"layout {name}": layout.read for name, layout in LAYOUTS.items()} | {"columns": Columns}
    return "\n\n".join(f"### {name}\n\n{summary(one)}\n\n{options(one)}" for name, one in documented.items())


def operations() -> str:
    """Return the table of the operations of ``morphology.steps``."""
    rows = [
        (f"`{name}`", "; ".join(": ".join(filter(None, row)) for row in given(function)), summary(function))
        for name, function in OPERATIONS.items()
    ]
    return table(("operation", "arguments, with type and default", "what it does"), rows)


def options(function: Callable[..., object]) -> str:
    """Return the table of the arguments of a function or dataclass, except for folder and image."""
    documented = meanings(function)
    return table(HEADER, [(*row[:3], *documented[row[0].strip("`")]) for row in given(function)])


def given(function: Callable[..., object]) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and default of each argument of a function, except for its folder or image."""
    for argument in signature(function).parameters.values():
        if argument.kind is Parameter.KEYWORD_ONLY:
            schema = {} if argument.annotation is Columns else TypeAdapter(argument.annotation).json_schema()
            default = REQUIRED if argument.default is Parameter.empty else argument.default
            yield f"`{argument.name}`", type_of(schema), shown(default)


def meanings(documented: Any) -> dict[str, tuple[str, str]]:
    """Return unit and meaning of each argument in a docstring, as in ``name, other (unit): meaning``."""
    docstring = griffe.Docstring(getdoc(documented) or "")
    found: dict[str, tuple[str, str]] = {}
    for section in docstring.parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.parameters:
            for argument in section.value:
                meaning = " ".join(argument.description.split()).replace("``", "`")
                unit = str(argument.annotation or "")
                found |= dict.fromkeys(argument.name.split(", "), (unit, meaning))
    return found


def summary(documented: Any) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((getdoc(documented) or "").partition("\n\n")[0].split()).replace("``", "`")


def type_of(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
    if kinds := schema.get("anyOf"):
        return " or ".join(type_of(kind) for kind in kinds)
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "object")
    if kind in NUMBERS:
        return f"{NUMBERS[kind]}{limits(schema, step=1 if kind == 'integer' else 0)}"
    return f"list of {type_of(schema['items'])}" if kind == "array" else TYPES[kind]


def limits(schema: Mapping[str, Any], *, step: int) -> str:
    """Return the limits of a number in words; those of integers are inclusive."""
    ends = {"from": "minimum", "above": "exclusiveMinimum", "to": "maximum", "below": "exclusiveMaximum"}
    numbers = {word: schema[key] for word, key in ends.items() if key in schema}
    if step and "below" in numbers:
        numbers["to"] = numbers.pop("below") - step
    words = [f"{word} {value:.0f}" if value == int(value) else f"{word} {value:g}" for word, value in numbers.items()]
    return f", {' '.join(words)}" if words else ""


def shown(default: object) -> str:
    """Return a default as it is written in YAML."""
    if default is REQUIRED:
        return "required"
    value = list(default) if isinstance(default, tuple) else default
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    text = text.removesuffix("...\n").strip()
    return f"`{text}`" if len(text) < 80 else "see `defaults.yml`"


def table(header: tuple[str, ...], rows: Any) -> str:
    """Return a Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands() -> str:
    """Return a section for each command of this project."""
    return "\n\n".join(section for name, command in cli.commands.items() for section in sections_of(command, name))


def sections_of(command: click.Command, path: str) -> Iterator[str]:
    """Yield the section of a command, or of each command of a group."""
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            yield from sections_of(member, f"{path} {name}")
        return
    context = click.Context(command, info_name=f"kedro {path}")
    usage = " ".join([f"kedro {path}", *command.collect_usage_pieces(context)])
    records = filter(None, (parameter.get_help_record(context) for parameter in command.get_params(context)))
    rows = [(f"`{option}`", " ".join(text.split())) for option, text in records]
    yield f"## kedro {path}\n\n{cleandoc(command.help or '')}\n\n`{usage}`\n\n{table(('option', 'meaning'), rows)}"


GENERATED: dict[str, Callable[[], str]] = {"parameters": parameters, "folders": folders, "commands": commands}
