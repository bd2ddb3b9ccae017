"""``cxr-pipeline new``: a project folder for an installed package."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import click
import kedro

from cxr_pipeline.common.errors import UserError

_PYPROJECT = """\
# The pipelines are those of the installed package cxr_pipeline.
[tool.kedro]
project_name = "{name}"
package_name = "cxr_pipeline"
kedro_init_version = "{kedro}"
source_dir = "."

[tool.kedro_telemetry]
project_id = "none"
"""
_IGNORED = "# Images, models, keys and passwords.\ndata/\nmlflow.db*\nmlartifacts/\nconf/local/\n"


@click.command()
@click.argument("folder", type=Path, metavar="DIR")
def new(folder: Path) -> None:
    """Make a project in the new folder DIR: configuration, and folders for images and results."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty. Give a new folder: cxr-pipeline new DIR")
    installed = files("cxr_pipeline") / "project" / "conf"
    # In the repository of this package, the configuration is not in the package.
    source = installed if installed.is_dir() else Path(__file__).parents[4] / "conf"
    with as_file(source) as configuration:
        shutil.copytree(configuration, folder / "conf", ignore=shutil.ignore_patterns("local"), dirs_exist_ok=True)
    (folder / "conf" / "local").mkdir()
    (folder / "data" / "01_raw").mkdir(parents=True)
    project_file = _PYPROJECT.format(name=folder.resolve().name.replace('"', ""), kedro=kedro.__version__)
    (folder / "pyproject.toml").write_text(project_file, "utf-8")
    (folder / ".gitignore").write_text(_IGNORED, "utf-8")
    click.echo(
        f"The project is in {folder}. Try it with generated images:\n"
        f"  cd {folder}\n"
        "  cxr-pipeline run --env demo --pipeline=effusion\n"
        "Or with your own:\n"
        "  cxr-pipeline task new NAME --folder DIR"
    )
