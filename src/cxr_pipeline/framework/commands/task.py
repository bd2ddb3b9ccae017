"""``kedro task new``: a task of one's own, proposed from images and labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from kedro.framework.session import KedroSession

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.framework.config_loader import check_name, configuration, task_names

if TYPE_CHECKING:
    from cxr_pipeline.data.sources.proposals import Proposal

_FILE = "local/parameters/tasks.yml"
# With fewer images, folds may lack a class; with more, an ensemble gains little for the time that it takes.
_IMAGES_OF_AN_ENSEMBLE = range(50, 20_001)
_SINGLE_NETWORK = {"training": {"folds": 1}, "evaluation": {"views": 1}}


@click.group()
def task() -> None:
    """Add tasks to the configuration."""


@task.command()
@click.argument("name")
@click.option("--folder", type=Path, metavar="DIR", help="Folder of the images, or file that has all of them.")
@click.option("--table", type=Path, metavar="FILE", help="Label table, CSV or Parquet; --folder if it is elsewhere.")
def new(name: str, folder: Path | None, table: Path | None) -> None:
    """Look at images and labels, and write a task NAME with them into conf/local.

    The layout, the columns of a label table, the classes, the patients and the size of the images are guessed. The
    command says what it found and what you have to check.
    """
    # Only now, because they take a second.
    from cxr_pipeline.data.sources.labels import propose_classes
    from cxr_pipeline.data.sources.proposals import propose_source, sides_of, size_for
    from cxr_pipeline.framework import config

    check_name(name)
    if name in task_names():
        raise UserError(f"There is a task {name} already. Choose another name, or edit its block in conf/.")
    place = table or folder
    if place is None:
        raise UserError(f"Give the images: kedro task new {name} --folder DIR, or --table FILE for a label table.")
    proposal = propose_source(place, folder=folder if table else None)
    images = proposal.listing.images
    kind, classes, notes = propose_classes(images["labels"])
    parameters = KedroSession.create().load_context().config_loader["parameters"]
    reader = config.Sources.model_validate({"images": proposal.source}).readers(config.Folders(**parameters["folders"]))
    sides = sides_of(images["path"], reader["images"])
    size = size_for(sides)
    block: dict[str, Any] = {
        "task": {"title": name.replace("_", " ").capitalize(), "kind": kind, "classes": classes},
        "sources": {"images": dict(proposal.source)},
        **({} if size is None else {"resolution": {"size": size}}),
        **(_SINGLE_NETWORK if len(images) not in _IMAGES_OF_AN_ENSEMBLE else {}),
    }
    file = configuration() / _FILE
    text = yaml.safe_dump({name: block}, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    text = "".join([f"# Check: {note}\n" for note in (*notes, *proposal.notes)]) + text
    with written_atomically(file) as temporary:
        temporary.write_text("\n".join([*([file.read_text("utf-8")] if file.exists() else []), text]), "utf-8")
    lines = [*_describe(proposal, block["task"], sides), "", text, f"This block is in {file}. Edit it there."]
    click.echo("\n".join([*lines, f"To train a first model: kedro run --pipeline={name}"]))


def _describe(proposal: "Proposal", task: Mapping[str, Any], sides: Sequence[int]) -> list[str]:
    """Return what was found, and what could not be known."""
    listing = proposal.listing
    images = listing.images
    counts = images["labels"].dropna().str.split("|").explode().value_counts()
    n_patients = images["patient_id"].nunique()
    found = [
        f"Layout: {proposal.source['layout']}.",
        f"Images: {len(images):,}" + (f" of {n_patients:,} patients." if n_patients else "; the patients are unknown."),
        *(f"  {name}: {sum(counts.get(label, 0) for label in labels):,}" for name, labels in task["classes"].items()),
    ]
    if task["kind"] == "binary":
        normal, positive = task["classes"]
        found.append(f"Positive class: {positive} (the last). If it is {normal}, swap the two lines in tasks.yml.")
    if n_unlabelled := int(images["labels"].isna().sum()):
        found.append(f"Images without a label, which a run refuses: {n_unlabelled:,}.")
    if listing.n_repeated:
        found.append(f"Rows that repeat another row of the same image, and are not used: {listing.n_repeated:,}.")
    if sides:
        lengths = " to ".join(map(str, sorted({min(sides), max(sides)})))
        found.append(f"Shorter side: {lengths} pixels, in {len(sides)} of the images.")
    if listing.n_missing:
        found.append(f"Rows whose image is not on disk: {listing.n_missing:,}, such as {listing.missing}.")
    if len(splits := images["given_split"].value_counts()):
        found.append("Splits given by the source: " + ", ".join(f"{name} {n:,}" for name, n in splits.items()) + ".")
    refused = listing.refused.groupby("reason")["detail"].agg(["size", "first"])
    found += [f"Refused: {row['size']:,} as {reason}: {row['first']}." for reason, row in refused.iterrows()]
    return [*found, *listing.notes]
