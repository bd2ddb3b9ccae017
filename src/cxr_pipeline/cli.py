"""``kedro run`` and the project's own commands, with short messages instead of tracebacks for user errors."""

import copy
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import click
from kedro.framework import project
from kedro.framework.cli.cli import project_commands
from kedro.framework.cli.project import run as kedro_run
from kedro_viz.launchers.cli.main import viz as kedro_viz
from rich import get_console

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.framework.commands.arguments import check_pipelines
from cxr_pipeline.framework.commands.fetch import fetch
from cxr_pipeline.framework.commands.lineage import lineage
from cxr_pipeline.framework.commands.mlflow_ui import mlflow
from cxr_pipeline.framework.commands.predict import predict
from cxr_pipeline.framework.commands.promote import promote
from cxr_pipeline.framework.commands.reader import reader
from cxr_pipeline.framework.commands.task import task
from cxr_pipeline.framework.exit import clean_exit

_log = logging.getLogger(__name__)


class LineHandler(logging.Handler):
    """Prints each message as one line, above a progress bar if there is one; Rich's own handler would break paths."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        get_console().print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


def log_lines() -> None:
    """Print the messages of the configured handlers by a `LineHandler`, and handle warnings as messages."""
    root = logging.getLogger()
    for handler in root.handlers.copy():
        if type(handler) is logging.StreamHandler:  # not its subclass FileHandler
            lines = LineHandler(handler.level)
            lines.setFormatter(handler.formatter)
            root.removeHandler(handler)
            root.addHandler(lines)
    logging.captureWarnings(True)


class ProjectCommands(click.Group):
    """The commands of the project and of Kedro, which end with one message if an argument is wrong or they fail."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        command = super().get_command(ctx, cmd_name) or project_commands.get_command(ctx, cmd_name)
        if command is None:
            return None
        log_lines()
        command = copy.copy(command)
        command.make_context = clean_exit()(command.make_context)  # type: ignore[method-assign]
        command.invoke = clean_exit()(command.invoke)  # type: ignore[method-assign]
        return command


@click.group(cls=ProjectCommands)
def cli() -> None:
    """Commands of the project, which extend or override those of Kedro."""


@functools.wraps(cast(Callable[..., Any], kedro_run.callback))
def start_run(*, params: dict[str, Any], pipeline: str | None, pipelines: list[str], **options: Any) -> Any:
    """Check the name of the pipeline, merge ``--params`` over those of a ``--config`` file, and run it.

    Kedro would drop the parameters of the file.
    """
    if options.get("runner") == "ParallelRunner":
        # Hooks and the prepared images are shared by the nodes, and cannot be sent to other processes.
        raise UserError("--runner=ParallelRunner cannot be used: the nodes of a task share one process. Omit it.")
    pipeline = pipeline or (None if pipelines else _pipeline_with(**options))
    names = [pipeline] if pipeline else pipelines
    # The first line of a run: the imports of the next ones take seconds.
    _log.info("Starting %s.", ", ".join(names) or "the default pipeline")
    check_pipelines(names)
    from_file = (click.get_current_context().default_map or {}).get("params") or {}
    params = lay_over(from_file, params)
    return kedro_run.callback(params=params, pipeline=pipeline, pipelines=pipelines, **options)  # type: ignore[misc]


def _pipeline_with(
    *,
    to_nodes: Iterable[str] = (),
    from_nodes: Iterable[str] = (),
    node_names: Iterable[str] = (),
    to_outputs: Iterable[str] = (),
    **_: Any,
) -> str | None:
    """Return the first pipeline with these nodes and outputs, so that the commands that kedro-viz shows run."""
    nodes, outputs = {*to_nodes, *from_nodes, *node_names}, set(to_outputs)
    if not nodes and not outputs:
        return None
    for name, pipeline in project.pipelines.items():
        if nodes <= {node.name for node in pipeline.nodes} and outputs <= pipeline.all_outputs():
            return None if name == "__default__" else str(name)
    return None


run = copy.copy(kedro_run)
run.callback = start_run
# Kedro prefers this global command to one of the project. Its commands are imported when they are used.
kedro_viz.lazy_subcommands = {
    name: f"cxr_pipeline.framework.commands.viz.{name}" for name in ("run", "build", "deploy")
}
for command in (run, fetch, lineage, predict, promote, reader, task, mlflow):
    cli.add_command(command)
