"""``kedro run`` and the project's own commands, with short messages instead of tracebacks for user errors."""

import copy
import functools
from collections.abc import Callable
from typing import Any, cast

import click
from kedro.framework.cli.project import run as kedro_run

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.framework.commands.lineage import lineage
from cxr_pipeline.framework.commands.mlflow_ui import mlflow, ui
from cxr_pipeline.framework.exit import clean_exit


@click.group()
def cli() -> None:
    """Commands of the project, which extend or override those of Kedro."""


def merges_config_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Merge ``--params`` over the parameters of a ``--config`` file; Kedro would drop those of the file."""

    @functools.wraps(command)
    def run(*args: Any, params: dict[str, Any], **kwargs: Any) -> Any:
        from_file = (click.get_current_context().default_map or {}).get("params") or {}
        return command(*args, params=lay_over(from_file, params), **kwargs)

    return run


run = copy.copy(kedro_run)
run.callback = merges_config_file(cast(Callable[..., Any], kedro_run.callback))
for command in (run, lineage, ui):
    command.callback = clean_exit()(cast(Callable[..., Any], command.callback))
for command in (run, lineage, mlflow):
    cli.add_command(command)
