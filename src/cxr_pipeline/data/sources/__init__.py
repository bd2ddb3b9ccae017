"""Where images and labels come from: one module per layout, each yielding the same rows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.reader import Reader
from cxr_pipeline.data.sources import (
    chexpert,
    class_folders,
    dicom_folder,
    label_table,
    medmnist,
    nih,
    phantoms,
    pixel_table,
)
from cxr_pipeline.data.sources.listing import Listing, printable

__all__ = ["LAYOUTS", "Layout", "Listing", "Reader", "check_source", "open_source", "read_source"]


@dataclass(frozen=True)
class Layout:
    """A way in which images and labels are kept.

    Args:
        read: lists the images of a place, ``read(folder, **options)``.
        reader: gives what reads these images, ``reader(folder, unpacked=folder, **options)``.
        holds_images: tells at little cost whether a place has images in this layout.
        expected: what should be in the place, for messages; ``{labels}`` stands for the labels of the task.
    """

    read: Callable[..., Listing]
    reader: Callable[..., Reader]
    holds_images: Callable[[Path], bool]
    expected: str


LAYOUTS: dict[str, Layout] = {
    module.__name__.rpartition(".")[2]: Layout(module.read, module.reader, module.holds_images, module.EXPECTED)
    for module in (class_folders, nih, chexpert, label_table, medmnist, pixel_table, dicom_folder, phantoms)
}


def read_source(layout: str, folder: Path, **options: object) -> Listing:
    """List the images of a source; no image is read.

    Args:
        layout: a key of ``LAYOUTS``.
        folder: the source's folder, or its file where the layout keeps all images in one.
        options: what the layout wants besides, such as ``patient_id``.

    Raises:
        UserError: the source cannot be read.

    Example:
        >>> read_source("class_folders", Path("effusion"), patient_id="none")  # doctest: +SKIP
    """
    return LAYOUTS[layout].read(folder, **options)


def open_source(layout: str, folder: Path, *, unpacked: Path, **options: object) -> Reader:
    """Give what reads the images of a source; a source in one file is unpacked first, once.

    Args:
        layout: a key of ``LAYOUTS``.
        folder: as for ``read_source``.
        unpacked: the folder in which unpacked images are kept.
        options: as for ``read_source``.

    Raises:
        UserError: the source cannot be unpacked.
    """
    return LAYOUTS[layout].reader(folder, unpacked=unpacked, **options)


def check_source(
    name: str, layout: str, folder: Path, *, classes: Mapping[str, Sequence[str]], task: str = "<task>"
) -> None:
    """Stop before any work if a source is not there. Cheap: it stops looking at the first image.

    Args:
        name: key of the source below ``sources``.
        layout: a key of ``LAYOUTS``.
        folder: as for ``read_source``.
        classes: for each class of the task, the labels that mean it.
        task: the task, for the commands that the message offers.

    Raises:
        UserError: the place is missing or holds no image of this layout.
    """
    found = _fault(layout, folder)
    if found is None:
        return
    labels = ", ".join(labels[0] for labels in classes.values() if labels)
    raise UserError(
        f"{task}.sources.{name}.path: {found}; expected {LAYOUTS[layout].expected.format(labels=labels)}. "
        "Put the images there, or name their place with "
        f"--params raw=/path/to/images (the folder that {folder.name} is in) or "
        f"--params {task}.sources.{name}.path=/path/to/{folder.name}. Public collections: NIH ChestX-ray14 "
        "(https://nihcc.app.box.com/v/ChestXray-NIHCC), Kermany 2018 (https://data.mendeley.com/datasets/rscbjbr9sj). "
        f"To try the pipeline without images: kedro run --env demo --pipeline={task}"
    )


def _fault(layout: str, folder: Path) -> str | None:
    place = printable(str(folder))
    try:
        with suppress(UserError):
            if LAYOUTS[layout].holds_images(folder):
                return None
        if not folder.is_dir():
            absent = f"no {'file' if folder.suffix else 'folder'} at {place}"
            return f"the file {place} is something else or damaged" if folder.exists() else absent
        found = ", ".join(sorted(printable(entry.name) for entry in folder.iterdir())[:5])
    except OSError as error:
        return f"{place} cannot be read ({error.strerror or error})"
    return f"nothing to read in {place}" + (f" (it holds {found})" if found else " (it is empty)")
