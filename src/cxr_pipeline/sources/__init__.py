"""Where films and labels come from: one module per layout, each yielding the same rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cxr_pipeline.errors import UserError
from cxr_pipeline.sources import class_folders, nih, phantoms
from cxr_pipeline.sources.listing import Listing, printable

__all__ = ["LAYOUTS", "Listing", "check_source", "read_source"]

LAYOUTS: dict[str, Callable[..., Listing]] = {
    "class_folders": class_folders.read,
    "nih": nih.read,
    "phantoms": phantoms.read,
}

_HOLDS_FILMS: dict[str, Callable[[Path], bool]] = {
    "class_folders": class_folders.holds_films,
    "nih": nih.holds_films,
}
_EXPECTED = {
    "class_folders": "one folder per class ({labels}) with films in it",
    "nih": "a release of NIH ChestX-ray14: Data_Entry_2017*.csv or .csv.gz, and folders images*/ with films in them",
}


def read_source(layout: str, folder: Path, **options: object) -> Listing:
    """List the films of a source.

    Args:
        layout: a key of ``LAYOUTS``.
        folder: the source's folder.
        options: what the layout wants besides, such as ``patient_id``.

    Raises:
        UserError: the source cannot be read.

    Example:
        >>> read_source("class_folders", Path("effusion"), patient_id="none")  # doctest: +SKIP
    """
    return LAYOUTS[layout](folder, **options)


def check_source(
    name: str, layout: str, folder: Path, *, classes: Mapping[str, Sequence[str]], task: str = "<task>"
) -> None:
    """Stop before any work if a source is not there. Cheap: it stops looking at the first film.

    Args:
        name: key of the source below ``sources``.
        layout: a key of ``LAYOUTS``. One that draws its films needs none.
        folder: the source's folder.
        classes: for each class of the task, the labels that mean it.
        task: the task, for the commands that the message offers.

    Raises:
        UserError: the folder is missing or holds no film of this layout.
    """
    if layout not in _HOLDS_FILMS:
        return
    found = _fault(layout, folder)
    if found is None:
        return
    expected = _EXPECTED[layout].format(labels=", ".join(labels[0] for labels in classes.values() if labels))
    raise UserError(
        f"{task}.sources.{name}.path: {found}; expected {expected}. Put the films there, or name their place with "
        f"--params raw=/path/to/films (the folder that {folder.name} is in) or "
        f"--params {task}.sources.{name}.path=/path/to/{folder.name}. Public collections: NIH ChestX-ray14 "
        "(https://nihcc.app.box.com/v/ChestXray-NIHCC), Kermany 2018 (https://data.mendeley.com/datasets/rscbjbr9sj). "
        f"To try the pipeline without films: kedro run --env demo --pipeline={task}"
    )


def _fault(layout: str, folder: Path) -> str | None:
    place = printable(str(folder))
    try:
        if not folder.is_dir():
            return f"{'a file, no folder,' if folder.exists() else 'no folder'} at {place}"
        if _HOLDS_FILMS[layout](folder):
            return None
        found = ", ".join(sorted(printable(entry.name) for entry in folder.iterdir())[:5])
    except OSError as error:
        return f"the folder {place} cannot be read ({error.strerror or error})"
    return f"nothing to read in {place}" + (f" (it holds {found})" if found else " (it is empty)")
