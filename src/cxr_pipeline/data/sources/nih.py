"""Layout ``nih``: a release of NIH ChestX-ray14 (Wang et al. 2017, https://nihcc.app.box.com/v/ChestXray-NIHCC)."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_tables import years
from cxr_pipeline.data.sources.listing import Listing, image_table, printable, refusal_table
from cxr_pipeline.data.sources.readers import FileReader

EXPECTED = "a release of NIH ChestX-ray14: Data_Entry_2017*.csv or .csv.gz, and folders images*/ with images in them"

NO_FINDING = "No Finding"
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

_IMAGE = "Image Index"
_COLUMNS = (_IMAGE, "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
_RENAMED = {"Patient Sex": "Patient Gender"}
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def read(folder: Path) -> Listing:
    """List the images that the label table names and that are on disk.

    The official lists are used if both are there: ``train_val_list.txt`` gives ``train``, ``test_list.txt`` gives
    ``test``. An image named twice with the same labels is taken once, with different ones it is refused.

    Args:
        folder: holds ``Data_Entry_2017*.csv`` or ``.csv.gz`` (of several, the last by name), folders ``images*/``
            with images in them or in their ``images/``, and perhaps ``BBox*.csv`` and the official lists.

    Raises:
        UserError: no table, a table that cannot be read or lacks a column, or lists that contradict each other.
    """
    table_file = _find_table(folder)
    table = _read_table(table_file, _COLUMNS)
    places, n_doubled = _places(folder)
    names = table[_IMAGE].fillna("")
    named_by_path = names.str.contains(r"[/\\]") | names.isin([".", ".."])
    on_disk = names.isin(list(places)) & ~named_by_path
    refusals = _refusals(table[on_disk])
    images = table[on_disk].drop(index=refusals.index)
    given_splits, notes = _given_splits(folder)
    columns = {
        "image": images[_IMAGE],
        "path": images[_IMAGE].map(places),
        "patient_id": images["Patient ID"],
        "labels": images["Finding Labels"].where(lambda labels: labels != ""),
        "view": images["View Position"].str.upper(),
        "age": years(images["Patient Age"]),
        "sex": images["Patient Gender"].str.upper().where(lambda sex: sex.isin(["F", "M"])),
        "given_split": images[_IMAGE].map(given_splits),
        "box_file": images[_IMAGE].map(_box_files(folder)),
    }
    escaped = [(image, "outside_source", "the table names it by a path") for image in names[named_by_path]]
    n_unnamed = len(places.keys() - set(names))
    return Listing(
        image_table(columns),
        refusal_table([*escaped, *refusals.itertuples(index=False, name=None)]),
        n_missing=int((~on_disk & ~named_by_path).sum()),
        notes=(f"Labels are from {table_file.name}.", *notes, *_counted(n_unnamed, n_doubled)),
        vocabulary=frozenset(LABELS),
    )


def _find_table(folder: Path) -> Path:
    """Find the label table.

    Raises:
        UserError: there is none.
    """
    tables = _tables(folder)
    if not tables:
        raise UserError(
            f"no label table in {printable(str(folder))}; expected Data_Entry_2017*.csv or Data_Entry_2017*.csv.gz, "
            "as in the releases of NIH ChestX-ray14 (https://nihcc.app.box.com/v/ChestXray-NIHCC)."
        )
    return max(tables, key=lambda file: (file.name.partition(".")[0], file.name))


def reader(folder: Path, **_: object) -> FileReader:
    """Give what reads the images that ``read`` lists."""
    return FileReader(folder)


def holds_images(folder: Path) -> bool:
    """Tell whether there is a label table and any file in the folders of images; stops at the first."""
    return bool(_tables(folder)) and any(True for _ in _files(folder))


def _tables(folder: Path) -> list[Path]:
    return [file for file in folder.glob("Data_Entry_2017*") if file.name.endswith((".csv", ".csv.gz"))]


def _read_table(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    found: list[str] = []

    def wanted(name: str) -> bool:
        found.append(name)
        return _RENAMED.get(name.strip(), name.strip()) in columns

    try:
        table = pd.read_csv(
            file, dtype="str", encoding="utf-8-sig", usecols=wanted, keep_default_na=False, na_values=[""]
        )
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{printable(str(file))} cannot be read as a table: {error}. Expected UTF-8 text with commas and a header."
        ) from error
    table = table.rename(columns=lambda name: _RENAMED.get(name.strip(), name.strip()))
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(
            f"{printable(str(file))} has no column {', '.join(missing)}; "
            f"found {', '.join(dict.fromkeys(found)) or 'none'}. Expected the columns of a release of NIH ChestX-ray14."
        )
    return table.assign(**{name: table[name].str.strip() for name in columns})


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Go through the images on disk, as file name and POSIX path; one scan a folder, no look at the files."""
    for above in sorted(folder.glob("[Ii]mages*")):
        for inside in (above, above / "images"):
            if inside.is_dir():
                with os.scandir(inside) as entries:
                    for entry in entries:
                        if not entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                            yield entry.name, f"{inside.relative_to(folder).as_posix()}/{entry.name}"


def _places(folder: Path) -> tuple[dict[str, str], int]:
    """Map file name to path, the first by folder where there are several; and count the others."""
    places: dict[str, str] = {}
    n_doubled = 0
    try:
        for name, path in _files(folder):
            n_doubled += places.setdefault(name, path) != path
    except OSError as error:
        raise UserError(f"the images in {printable(str(folder))} cannot be listed: {error}.") from error
    return places, n_doubled


def _refusals(rows: pd.DataFrame) -> pd.DataFrame:
    """Find the rows with contradicting labels, and the second row of an image: image, reason, detail."""
    labels = rows["Finding Labels"].fillna("")
    sets = {text: frozenset(label.strip() for label in text.split("|")) for text in labels.unique()}
    both = labels.isin([text for text, found in sets.items() if NO_FINDING in found and len(found) > 1])
    versions = labels.map({text: "|".join(sorted(found)) for text, found in sets.items()})
    torn = versions.groupby(rows[_IMAGE]).transform("nunique") > 1
    again = rows[_IMAGE].duplicated() & ~torn & ~both
    cases = [
        (both, "contradicting_labels", f"{NO_FINDING} and a finding"),
        (torn & ~both, "contradicting_labels", "several rows of the table with different labels"),
        (again, "exact_duplicate", "a second row of the table for the same image"),
    ]
    parts = [rows.loc[case, [_IMAGE]].assign(reason=reason, detail=detail) for case, reason, detail in cases]
    return pd.concat(parts)


def _given_splits(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    files = [folder / name for name in _LISTS if (folder / name).is_file()]
    if len(files) < len(_LISTS):
        return {}, tuple(f"{file.name} was not used: the other official list is not there." for file in files)
    named = [(_lines(file), _LISTS[file.name]) for file in files]
    twice = sorted(set.intersection(*(set(names) for names, _ in named)))
    if twice:
        raise UserError(
            f"{len(twice)} images are in both {' and '.join(_LISTS)} of {printable(str(folder))}: "
            f"{', '.join(twice[:10])}. Expected each image in one of them."
        )
    return {name: split for names, split in named for name in names}, ()


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{printable(str(file))} cannot be read: {error}. Expected one image name a line.") from error


def _box_files(folder: Path) -> dict[str, str]:
    files: dict[str, list[str]] = {}
    for file in sorted(folder.glob("BBox*.csv")):
        for image in _read_table(file, (_IMAGE,))[_IMAGE].dropna().unique():
            files.setdefault(image, []).append(file.name)
    return {image: "|".join(names) for image, names in files.items()}


def _counted(n_unnamed: int, n_doubled: int) -> tuple[str, ...]:
    notes = {
        f"Images on disk that the table does not name: {n_unnamed}.": n_unnamed,
        f"Images on disk under a name that another folder has too, not read: {n_doubled}.": n_doubled,
    }
    return tuple(note for note, count in notes.items() if count)
