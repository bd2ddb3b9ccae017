"""``kedro viz run``, ``build`` and ``deploy``: the pipelines and their results in a browser."""

import copy
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession
from kedro_viz.launchers.cli import build as build_module
from kedro_viz.launchers.cli import deploy as deploy_module
from kedro_viz.launchers.cli import run as run_module

from cxr_pipeline.framework.commands.arguments import check_pipelines
from cxr_pipeline.framework.exit import clean_exit
from cxr_pipeline.framework.shown_pipelines import OPENED

_PIPELINE = click.Option(
    ["--pipeline", "-p"], help="Pipeline to open, with the other pipelines of its task. By default the first task."
)
_ENV = env_option(lambda: None).__click_params__[0]


def _of_project(command: click.Command) -> click.Command:
    """Copy a command of kedro-viz: it shows the pipelines of `shown_pipelines`, and ends if there is a wrong argument.

    kedro-viz reads the project in another process, to which the options are passed as environment variables.
    """
    taken = {parameter.name for parameter in command.params}

    def show(*, pipeline: str | None, env: str | None, **options: Any) -> None:
        # Of libraries about each other. A process that kedro-viz starts reads the variable.
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
        with clean_exit():
            check_pipelines([pipeline] if pipeline else [])
            _ = KedroSession.create(env=env, runtime_params=options.get("params")).load_context().catalog
        os.environ[OPENED] = pipeline or ""
        os.environ.update({"KEDRO_ENV": env} if env else {})
        given = {name: value for name, value in {"pipeline": None, "env": env}.items() if name in taken}
        before = _written()
        command.callback(**options, **given)  # type: ignore[misc]
        if command is build_module.build and _written() == before:
            sys.exit(1)  # kedro-viz has said why, but ends with status 0

    shown = copy.copy(command)
    own = [option for option in (_PIPELINE, _ENV) if option.name not in taken]
    shown.params = [_PIPELINE if option.name == _PIPELINE.name else option for option in command.params] + own
    shown.callback = show
    return shown


def _written() -> float | None:
    """Return when the static page was written."""
    last = Path("build/api/deploy-viz-metadata")
    return last.stat().st_mtime if last.exists() else None


run, build, deploy = map(_of_project, (run_module.run, build_module.build, deploy_module.deploy))
