"""``kedro run`` and the project's own commands, without a traceback for a mistake that their user can mend."""

import copy
import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, cast

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.validation import ParameterValidationError
from pydantic import BaseModel

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.locks import Locked
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.framework import config
from cxr_pipeline.framework.commands.lineage import lineage
from cxr_pipeline.framework.commands.send import send

PYDANTIC_ERROR = re.compile(
    r"^(?:(\S+)\n)?  (.+) \[type=(\w+), input_value=(.*), input_type=\w+\]$", flags=re.MULTILINE
)


class MayPass(click.ClickException):
    """Ends a command that may succeed later as it is."""

    exit_code = Unavailable.exit_code


@click.group()
def cli() -> None:
    """The project's own commands, over Kedro's."""


def user_mistake(error: BaseException | None) -> str | None:
    """The message of a mistake that the user can mend, if ``error`` comes from one; else None."""
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, ParameterValidationError):
            return explain_parameters(str(error))
        if (away := tracking.why_away(error)) is not None:
            return away
        error = error.__cause__ or error.__context__
    return None


def exit_status(error: BaseException | None) -> int:
    """The exit status for a mistake as `user_mistake` finds it: 69 where the same command may succeed later, else 1."""
    while error is not None:
        if isinstance(error, Unavailable) or tracking.why_away(error) is not None:
            return Unavailable.exit_code
        if isinstance(error, UserError):
            return 1
        error = error.__cause__ or error.__context__
    return 1


def explain_parameters(message: str) -> str:
    """Rewrite Kedro's report of parameters that do not fit, one line for each.

    Args:
        message: of a ``ParameterValidationError``; pydantic's report of each block is quoted in it.

    Returns:
        lines such as ``effusion.training.epoch: there is no such parameter. Did you mean 'epochs'?``
    """
    lines = []
    for block in re.split(r"^- ", message, flags=re.MULTILINE)[1:]:
        name = re.match(r"Parameter '(.+?)': ", block)
        for place, text, kind, found in PYDANTIC_ERROR.findall(block):
            key = ".".join(filter(None, (name.group(1) if name else "", place)))
            lines.append(_unknown(key) if kind == "extra_forbidden" else f"{key}: {_found(text, kind, found)}")
    return "\n".join(lines) or message


def _unknown(key: str) -> str:
    blocks = [block for block in vars(config).values() if isinstance(block, type) and issubclass(block, BaseModel)]
    known = {field for block in blocks for field in block.model_fields}
    close = get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
    return f"{key}: there is no such parameter." + (f" Did you mean '{close[0]}'?" if close else "")


def _found(text: str, kind: str, found: str) -> str:
    if kind == "value_error":
        return f"{text.removeprefix('Value error, ')}."
    return f"{text.removeprefix('Input ')}, found {found}."


def plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command so that it ends with one message instead of a traceback.

    The exit status is 1 after a user's mistake, 69 (EX_UNAVAILABLE) where something is away that may come back, and 75
    (EX_TEMPFAIL) where another job is at work already.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Locked as locked:
            click.echo(str(locked), err=True)
            sys.exit(Locked.exit_code)
        except Exception as error:
            message = user_mistake(error)
            if message is None:
                raise
            ended = MayPass if exit_status(error) == MayPass.exit_code else click.ClickException
            raise ended(message) from None

    return run


@contextmanager
def ending_plainly() -> Iterator[None]:
    """End this process, on a user's mistake, with its message as the last line that is printed."""
    try:
        yield
    except Exception as error:
        message = user_mistake(error)
        if message is None:
            raise
        print(message.replace("\n", "; "), file=sys.stderr)
        sys.exit(exit_status(error))


def with_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the run command so that ``--params`` are laid over those of a ``--config`` file; Kedro drops the file's."""

    @functools.wraps(command)
    def run(*args: Any, params: dict[str, Any], **kwargs: Any) -> Any:
        of_file = (click.get_current_context().default_map or {}).get("params") or {}
        return command(*args, params=lay_over(of_file, params), **kwargs)

    return run


run = copy.copy(kedro_run)
run.callback = plainly(with_file(cast(Callable[..., Any], kedro_run.callback)))
cli.add_command(run)
for command in (lineage, send):
    command.callback = plainly(cast(Callable[..., Any], command.callback))
    cli.add_command(command)
