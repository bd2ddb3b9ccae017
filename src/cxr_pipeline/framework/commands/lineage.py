"""``kedro lineage``: the origin of a version, and the versions that used an image or a patient."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.utils import find_kedro_project

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework import config

if TYPE_CHECKING:
    from cxr_pipeline.tracking.lineage import VersionRecord


@click.command()
@click.argument("task")
@click.argument("version", required=False)
@click.option("--patient", metavar="ID", help="Show which versions used a patient, by the id in the source.")
@click.option("--image", metavar="FILE|SHA256", help="Show which versions used an image, by its content.")
@click.option("--images", metavar="FILE", type=Path, help="Write the images of VERSION to a CSV file.")
@click.option("--env", "-e", help="Configuration environment, such as demo.")
def lineage(
    task: str, version: str | None, patient: str | None, image: str | None, images: Path | None, env: str | None
) -> None:
    """Show the origin of the versions of TASK: images, split, parameters, code, decision rule, metrics and decision.

    VERSION is a number or an alias, such as 3 or @champion; without it all versions are listed.
    """
    from rich.console import Console

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from cxr_pipeline.framework.commands import answers

    if sum(option is not None for option in (patient, image, images)) > 1:
        raise UserError("Use only one of --patient, --image and --images at a time.")
    if images is not None and version is None:
        raise UserError(f"--images needs a version: kedro lineage {task} @champion --images {images}")
    parameters, folders, uri = _configuration(task, env)
    chosen = _choose(_versions(task, env, parameters, uri), version)
    if images is not None:
        shown = [answers.write_images(chosen[0], images)]
    elif patient is not None:
        names = _names_of(patient, config.Sources.model_validate(parameters["sources"]), folders.raw)
        shown = answers.who_saw_patient(chosen, names, folders.patient_key)
    elif image is not None:
        shown = answers.who_saw_image(chosen, image)
    else:
        shown = [answers.overview_of(chosen) if version is None else answers.details_of(chosen[0], parameters)]
    for answer in shown:
        Console().print(answer)


def _configuration(task: str, env: str | None) -> tuple[dict[str, Any], config.Folders, str]:
    """Return the current parameters of a task, the folders, and the tracking URI."""
    from kedro.framework.project import settings

    if task not in config.TASKS:
        close = get_close_matches(task, config.TASKS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"There is no task '{task}'; expected one of {', '.join(config.TASKS)}.{hint}")
    conf = (find_kedro_project(Path.cwd()) or Path.cwd()) / settings.CONF_SOURCE
    if env is not None and not (conf / env).is_dir():
        environments = sorted(folder.name for folder in conf.iterdir() if folder.is_dir())
        raise UserError(f"There is no environment '{env}' in {conf}; found {', '.join(environments)}.")
    loader = settings.CONFIG_LOADER_CLASS(str(conf), env=env, **settings.CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    return parameters[task], config.Folders(**parameters["folders"]), loader["globals"]["tracking_uri"]


def _versions(task: str, env: str | None, parameters: dict[str, Any], uri: str) -> "list[VersionRecord]":
    from cxr_pipeline.tracking.lineage import versions_of
    from cxr_pipeline.tracking.server import without_password
    from cxr_pipeline.tracking.versions import model_name

    phantom = config.Sources.model_validate(parameters["sources"]).phantom
    name = model_name(task, phantom=phantom)
    versions = versions_of(name, uri)
    if not versions:
        train = f"kedro run{f' --env {env}' if env else ''} --pipeline={task}"
        demo = "" if phantom else f" Versions trained on phantoms: kedro lineage {task} --env demo."
        where = without_password(uri)
        raise UserError(f"No version of {name} is registered in MLflow at {where}. Train one: {train}.{demo}")
    return versions


def _choose(versions: "Sequence[VersionRecord]", asked: str | None) -> "list[VersionRecord]":
    if asked is None:
        return list(versions)
    chosen = [one for one in versions if asked in (str(one.number), *(f"@{alias}" for alias in one.aliases))]
    if not chosen:
        aliases = [f"@{alias}" for one in versions for alias in one.aliases]
        names = ", ".join([*(str(one.number) for one in versions[:20]), *aliases])
        raise UserError(f"{versions[0].name} has no version '{asked}'; expected one of {names}.")
    return chosen


def _names_of(patient: str, sources: config.Sources, raw: Path) -> list[str]:
    """Return the possible ids of a patient in the current sources: DICOM sources replace those of the headers."""
    from cxr_pipeline.data.sources.dicom_folder import patient_pseudonym

    folders = [raw / source.path for source in sources.root.values() if source.layout == "dicom_folder"]
    return [patient, *filter(None, (patient_pseudonym(folder, patient) for folder in folders))]
