"""Sources of images and labels: one module per layout, all with the same columns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cxr_pipeline.common.errors import UserError
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
from cxr_pipeline.data.sources.folders import holds_images
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.readers import Reader, file_reader


@dataclass(frozen=True)
class Layout:
    """How images and labels are stored: what the module of a layout defines (``docs/guides/layouts.md``).

    ``read`` and ``reader`` raise ``UserError`` for a folder, file or table that is missing, damaged or unexpected.
    """

    read: Callable[..., Listing]
    reader: Callable[..., Reader]
    holds_images: Callable[[Path], bool]
    expected: str
    has_patient_records: bool


LAYOUTS: dict[str, Layout] = {
    module.__name__.rpartition(".")[2]: Layout(
        module.read,
        getattr(module, "reader", file_reader),
        getattr(module, "holds_images", holds_images),
        module.EXPECTED,
        getattr(module, "HAS_PATIENT_RECORDS", False),
    )
    for module in (class_folders, nih, chexpert, label_table, medmnist, pixel_table, dicom_folder, phantoms)
}


def check_source(
    name: str, layout: str, folder: Path, *, classes: Mapping[str, Sequence[str]], task: str = "<task>"
) -> None:
    """Raise ``UserError`` if the folder or file of a source is missing or has no image."""
    fault = _find_fault(layout, folder)
    if fault is None:
        return
    labels = ", ".join(labels[0] for labels in classes.values() if labels)
    # Only now: a server, which reads images, does without the packages for downloads.
    from cxr_pipeline.data.collections import read_collections

    known = [name for name, collection in read_collections().items() if folder.match(collection.path)]
    raise UserError(
        f"{task}.sources.{name}.path: {fault}; expected {LAYOUTS[layout].expected.format(labels=labels)}. "
        "Correct the path in tasks.yml below conf/, or give it with "
        f"--params {task}.sources.{name}.path=/path/to/{folder.name} or --params raw=/path/to/images (the folder that "
        f"{folder.name} is in).{''.join(f' Or download it: kedro fetch {name}.' for name in known)}"
    )


def _find_fault(layout: str, folder: Path) -> str | None:
    place = printable(str(folder))
    try:
        with suppress(UserError):
            if LAYOUTS[layout].holds_images(folder):
                return None
        if folder.is_dir():
            content = ", ".join(sorted(printable(entry.name) for entry in folder.iterdir())[:5])
            return f"no images in {place} (it contains {content or 'nothing'})"
        above = next((parent for parent in folder.parents if parent.is_file()), None)
        if above is not None:
            return f"{printable(str(above))} is a file, not a folder with {printable(folder.name)} in it"
        if folder.exists():
            return f"the file {place} is damaged or not in this layout"
    except OSError as error:
        return f"{place} cannot be read ({error.strerror or error})"
    return f"no {'file' if folder.suffix else 'folder'} at {place}"
