"""``kedro fetch``: download a public collection of chest X-rays into the folder that the tasks read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession

from cxr_pipeline.common.errors import UserError, did_you_mean
from cxr_pipeline.framework.config_loader import task_names

if TYPE_CHECKING:
    from cxr_pipeline.data.collections import Collection


@click.command()
@click.argument("collection", required=False)
@click.option("--raw", type=Path, metavar="DIR", help="Folder to download into; by default the parameter raw.")
@click.option("--archives", type=click.IntRange(1), metavar="N", help="Download the first N archives of images only.")
@click.option(
    "--mirror",
    envvar="CXR_FETCH_MIRROR",
    show_envvar=True,
    metavar="URL",
    help="Address of a copy of DIR, to download from instead of the addresses of the collection.",
)
@env_option
def fetch(collection: str | None, raw: Path | None, archives: int | None, mirror: str | None, env: str | None) -> None:
    """Download COLLECTION, check and unpack it, and write its licence beside it; without COLLECTION, list all.

    An interrupted download is resumed by the same command.
    """
    # Only now, because they take a second.
    from cxr_pipeline.data import collections

    known = collections.read_collections()
    if collection is None:
        click.echo("\n".join([*map(_overview, known.values()), "", "To download one: kedro fetch NAME"]))
        return
    if collection not in known:
        question = did_you_mean(collection, known)
        raise UserError(f"There is no collection '{collection}'; expected one of {', '.join(known)}.{question}")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise UserError(f"--mirror: expected an address such as http://mirror.example.org/cxr; found '{mirror}'.")
    chosen = known[collection]
    parameters = KedroSession.create(env=env).load_context().config_loader["parameters"]
    folder = (raw or Path(parameters["raw"])).expanduser().absolute()
    if chosen.terms:
        raise UserError(
            f"{chosen.title} cannot be downloaded by kedro fetch: it needs {chosen.terms}. Get it at {chosen.page} and "
            f"unpack it into {folder / chosen.path}."
        )
    click.echo(f"{chosen.describe()}\n")
    for line in collections.fetch(chosen, folder, n_archives=archives, mirror=mirror):
        click.echo(line)
    notice = chosen.folder(folder) / f"{chosen.name}.txt"
    click.echo(f"{chosen.name} is in {folder / chosen.path}. Its licence and citation are in {notice}.")
    options = (f" --env {env}" if env else "") + (f" --params raw={folder}" if raw else "")
    tasks = {task: parameters[task]["sources"] for task in task_names() if task in parameters}
    click.echo("\n".join(_next_steps(chosen, folder, tasks, options)))


def _overview(collection: "Collection") -> str:
    from cxr_pipeline.data.collections import format_bytes

    n_bytes = collection.n_bytes
    size = "by hand" if collection.terms else "unknown size" if n_bytes is None else format_bytes(n_bytes)
    images = f"{collection.images} images" if collection.images else ""
    return f"{collection.name:<20}{size:<14}{images:<16}{collection.title}"


def _next_steps(collection: "Collection", raw: Path, tasks: Mapping[str, Any], options: str) -> list[str]:
    """Return the commands that use a collection: a run of each task that has all its sources, or a new task."""
    lines = []
    for task, sources in tasks.items():
        paths = [source["path"] for source in sources.values() if source and "path" in source]
        missing = [path for path in paths if not (raw / path).exists()]
        if collection.path in paths and not missing:
            lines.append(f"To train a model: kedro run --pipeline={task}{options}")
        elif collection.path in paths:
            lines.append(f"The task {task} also needs {' and '.join(missing)} in {raw}.")
    if not lines:
        lines.append(f"To use it: kedro task new {collection.name} --folder {raw / collection.path}")
        if collection.labels:
            lines.append(f"Its labels, in the order of their numbers: {', '.join(collection.labels)}")
    return lines
