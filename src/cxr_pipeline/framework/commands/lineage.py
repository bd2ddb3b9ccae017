"""``kedro lineage``: the origin of a version, and the versions that used an image or a patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.commands.arguments import TASK

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from cxr_pipeline.framework.config import Sources
    from cxr_pipeline.tracking.model_index import VersionRecord


@click.command()
@TASK
@click.argument("version", required=False)
@click.option("--patient", metavar="ID", help="Show which versions used a patient, by the id in the source.")
@click.option("--image", metavar="FILE|SHA256", help="Show which versions used an image, by its content.")
@click.option("--images", metavar="FILE", type=Path, help="Write the images of VERSION to a CSV file.")
@click.option(
    "--croissant",
    metavar="FILE",
    type=Path,
    help="Write Croissant metadata (JSON-LD) of the images of VERSION, and their list beside it.",
)
@env_option
def lineage(
    task: str,
    version: str | None,
    patient: str | None,
    image: str | None,
    images: Path | None,
    croissant: Path | None,
    env: str | None,
) -> None:
    """Show the origin of the versions of TASK: images, split, parameters, code, decision rule, metrics and decision.

    VERSION is a number or an alias, such as 3 or @champion; without it all versions are listed.
    """
    from cxr_pipeline.framework import config
    from cxr_pipeline.framework.commands import answers

    if sum(option is not None for option in (patient, image, images, croissant)) > 1:
        raise UserError("Use only one of --patient, --image, --images and --croissant at a time.")
    for option, file in {"--images": images, "--croissant": croissant}.items():
        if file is not None and version is None:
            raise UserError(f"{option} needs a version: kedro lineage {task} @champion {option} {file}")
    context, versions = open_project(task, env)
    parameters = context.config_loader["parameters"][task]
    chosen = choose(versions, version)
    if images is not None:
        answer = answers.write_images(chosen[0], images)
    elif croissant is not None:
        raw = Path(context.config_loader["parameters"]["raw"]).expanduser().absolute()
        answer = answers.write_croissant(chosen[0], croissant, raw)
    elif patient is not None:
        key_file = config.Folders(**context.config_loader["parameters"]["folders"]).patient_key
        names = _names_of(patient, config.Sources.model_validate(parameters["sources"]), key_file)
        answer = answers.who_used_patient(chosen, names, key_file)
    elif image is not None:
        answer = answers.who_used_image(chosen, image)
    elif version is not None:
        answer = answers.details_of(chosen[0], parameters)
    else:
        answer = answers.overview_of(chosen)
    click.echo(answer)


def open_project(task: str, env: str | None) -> "tuple[KedroContext, Sequence[VersionRecord]]":
    """Return the context of the project, and the versions of a task in its MLflow, newest first."""
    from cxr_pipeline.framework.config import Sources
    from cxr_pipeline.tracking.aliases import model_name
    from cxr_pipeline.tracking.model_index import versions_of

    context = KedroSession.create(env=env).load_context()
    sources = Sources.model_validate(context.config_loader["parameters"][task]["sources"])
    project = context.config_loader["globals"]
    name = model_name(task, phantom=sources.phantom)
    return context, versions_of(name, project["tracking_uri"], artifacts=project["artifacts"])


def choose(versions: "Sequence[VersionRecord]", asked: str | None) -> "Sequence[VersionRecord]":
    """Return the versions with a number or an alias; all of them for None."""
    chosen = [one for one in versions if asked in (None, str(one.number), *(f"@{alias}" for alias in one.aliases))]
    if not chosen:
        aliases = [f"@{alias}" for one in versions for alias in one.aliases]
        names = ", ".join([*(str(one.number) for one in versions[:20]), *aliases])
        raise UserError(f"{versions[0].model} has no version '{asked}'; expected one of {names}.")
    return chosen


def _names_of(patient: str, sources: "Sources", key_file: Path) -> list[str]:
    """Return the possible ids of a patient in the current sources: DICOM sources replace those of the headers."""
    import pandas as pd

    from cxr_pipeline.data.sources import LAYOUTS
    from cxr_pipeline.data.sources.pseudonyms import key_fingerprint, pseudonyms

    hidden = any(LAYOUTS[source.layout].has_patient_records for source in sources.root.values())
    if not hidden or key_fingerprint(key_file, make=False) is None:
        return [patient]
    return [patient, *pseudonyms(pd.Series([patient], dtype="str"), key_file)]
