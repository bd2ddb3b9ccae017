"""``kedro run`` without a traceback for a mistake that its user can mend."""

import copy
import functools
from collections.abc import Callable
from typing import Any, cast

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.validation import ParameterValidationError

from cxr_pipeline.errors import UserError


@click.group()
def cli() -> None:
    """The project's own commands, over Kedro's."""


def user_mistake(error: BaseException | None) -> str | None:
    """The message of a mistake that the user can mend, if ``error`` comes from one; else None."""
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, ParameterValidationError):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command so that a user's mistake ends it with one message and exit status 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            message = user_mistake(error)
            if message is None:
                raise
            raise click.ClickException(message) from None

    return run


run = copy.copy(kedro_run)
run.callback = plainly(cast(Callable[..., Any], kedro_run.callback))
cli.add_command(run)
