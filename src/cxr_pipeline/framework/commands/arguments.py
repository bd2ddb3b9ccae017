"""Arguments that several commands have."""

from collections.abc import Iterable

import click
from kedro.framework import project

from cxr_pipeline.common.errors import UserError, did_you_mean
from cxr_pipeline.framework.config_loader import task_names


class TaskName(click.ParamType[str]):
    """The name of a task of the configuration, which is read only when the command is used."""

    name = "task"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with the names of all tasks."""
        if value not in (names := task_names()):
            question = did_you_mean(value, names)
            if ctx and not question:
                question = f" Type {' '.join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)[1:]])}"
            self.fail(f"there is no task '{value}', expected one of {', '.join(names)}.{question}", param, ctx)
        return value


TASK = click.argument("task", type=TaskName(), metavar="TASK")


def check_pipelines(names: Iterable[str]) -> None:
    """Raise `UserError` if there is no pipeline of one of the names."""
    for name in names:
        if name not in project.pipelines:
            question = did_you_mean(name, project.pipelines, shown="--pipeline={}")
            raise UserError(f"There is no pipeline '{name}'.{question} Give one that kedro registry list shows.")
