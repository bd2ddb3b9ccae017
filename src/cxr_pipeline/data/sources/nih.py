"""Layout ``nih``: a release of NIH ChestX-ray14 (Wang et al. 2017, https://nihcc.app.box.com/v/ChestXray-NIHCC)."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import label_tables
from cxr_pipeline.data.sources.folders import files_and_links_below, files_below
from cxr_pipeline.data.sources.label_tables import NO_FINDING, Columns
from cxr_pipeline.data.sources.listing import Listing, count_notes, explained, list_rows, printable
from cxr_pipeline.data.sources.table_files import read_table

EXPECTED = "a release of NIH ChestX-ray14: Data_Entry_2017*.csv or .csv.gz, and folders images*/ with images in them"

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    NO_FINDING,
)

_IMAGE, _LABELS, _PATIENT, _AGE, _VIEW = "Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"
# The name differs between releases.
_SEX = ("Patient Gender", "Patient Sex")
_SPLIT_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def read(folder: Path, *, follow_links: bool = False) -> Listing:
    """List the images of the label table that are on disk.

    The folder has ``Data_Entry_2017*.csv`` or ``.csv.gz`` (if there are several, the last by name is read), images in
    folders ``images*/``, and optionally box lists ``BBox*.csv`` and the official lists. These are used if both are
    there: ``train_val_list.txt`` gives ``train``, ``test_list.txt`` gives ``test``. Links to folders, and images that
    are links out of the folder, are read only if ``follow_links``.

    Raises:
        UserError: there is no table, the table cannot be read or lacks a column, or the lists contradict each other.
    """
    files = _tables(folder)
    if not files:
        raise UserError(
            f"no label table in {printable(str(folder))}; expected Data_Entry_2017*.csv or Data_Entry_2017*.csv.gz, "
            "as in the releases of NIH ChestX-ray14 (https://nihcc.app.box.com/v/ChestXray-NIHCC)."
        )
    file = max(files, key=lambda file: (file.name.partition(".")[0], file.name))
    table = read_table(file, (_IMAGE, _LABELS, _PATIENT, _AGE, _VIEW), optional=_SEX)
    sex = next((name for name in _SEX if name in table), None)
    columns = Columns(image=_IMAGE, labels=_LABELS, patient_id=_PATIENT, view=_VIEW, age=_AGE, sex=sex)
    rows, _ = label_tables.read_labels(table, columns)
    names = label_tables.normalise_paths(rows["image"])
    paths = list(_image_paths(files_below(folder, follow_links=follow_links)))
    # Of files with the same name in several folders, the first is used.
    by_name: dict[str, str | None] = {posixpath.basename(path): path for path in reversed(paths)}
    splits, notes = _official_splits(folder)
    rows = label_tables.locate(label_tables.refuse_contradictions(rows).assign(image=names), by_name)
    rows = rows.assign(image=names, given_split=names.map(splits), box_file=names.map(_box_files(folder)))
    counts = {
        "Images on disk that the table does not name": len(by_name.keys() - set(names)),
        "Images on disk with the name of an image in another folder, which were not read": len(paths) - len(by_name),
    }
    notes = (f"Labels are from {file.name}.", *notes, *count_notes(counts))
    return list_rows(rows, vocabulary=frozenset(LABELS), notes=notes)


def holds_images(folder: Path) -> bool:
    """Return whether there is a label table, and any file or link in the folders of images; stops at the first."""
    return bool(_tables(folder)) and any(True for _ in _image_paths(files_and_links_below(folder)))


def _tables(folder: Path) -> list[Path]:
    return [file for file in folder.glob("Data_Entry_2017*") if file.name.endswith((".csv", ".csv.gz"))]


def _image_paths(paths: Iterator[str]) -> Iterator[str]:
    return (path for path in paths if path.casefold().startswith("images") and "/" in path)


def _official_splits(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the split of each image in the official lists, and notes."""
    files = [folder / name for name in _SPLIT_LISTS if (folder / name).is_file()]
    if len(files) < len(_SPLIT_LISTS):
        return {}, tuple(f"{file.name} was not used: the other official list is missing." for file in files)
    with explained(folder, "official lists of one image name per line"):
        train, test = ({*file.read_text("utf-8-sig").split()} for file in files)
    if train & test:
        raise UserError(
            f"{len(train & test)} images are in both {' and '.join(_SPLIT_LISTS)} of {printable(str(folder))}: "
            f"{', '.join(sorted(train & test)[:10])}. Expected each image in one of them."
        )
    return dict.fromkeys(train, "train") | dict.fromkeys(test, "test"), ()


def _box_files(folder: Path) -> dict[str, str]:
    """Return the names of the box lists that have boxes of an image, by image."""
    files: dict[str, list[str]] = {}
    for file in sorted(folder.glob("BBox*.csv")):
        for image in read_table(file, (_IMAGE,))[_IMAGE].dropna().unique():
            files.setdefault(image, []).append(file.name)
    return {image: "|".join(names) for image, names in files.items()}
