"""Layout ``nih``: a release of NIH ChestX-ray14 (Wang et al. 2017, https://nihcc.app.box.com/v/ChestXray-NIHCC)."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import files_below
from cxr_pipeline.data.sources.label_tables import NO_FINDING, Columns, locate, read_labels
from cxr_pipeline.data.sources.listing import Listing, explained, list_rows, printable
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
_SPLIT_LISTS = ("train_val_list.txt", "test_list.txt")

SIDES = ("left", "top", "right", "bottom")

# The box lists give pixels in images of 1024 x 1024.
_FRAME = 1024
_BOX_COLUMNS = ("image", "finding", "x", "y", "width", "height")
# The box lists have one name that the label table of the same release does not have.
_RENAMED = {"Infiltrate": "Infiltration"}


def read(folder: Path, *, follow_links: bool = False) -> Listing:
    """List the images of the label table that are on disk.

    The last table by name is read. The official lists are used if both are there.

    Args:
        folder: folder of the source.
        follow_links: read links to folders, and images that are links out of the source's folder.
    """
    files = [file for file in folder.glob("Data_Entry_2017*") if file.name.endswith((".csv", ".csv.gz"))]
    if not files:
        raise UserError(
            f"no label table in {printable(str(folder))}; expected Data_Entry_2017*.csv or Data_Entry_2017*.csv.gz, "
            "as in the releases of NIH ChestX-ray14 (https://nihcc.app.box.com/v/ChestXray-NIHCC)."
        )
    file = max(files, key=lambda file: (file.name.partition(".")[0], file.name))
    table = read_table(file, (_IMAGE, _LABELS, _PATIENT, _AGE, _VIEW), optional=_SEX)
    sex = next((name for name in _SEX if name in table), None)
    columns = Columns(image=_IMAGE, labels=_LABELS, patient_id=_PATIENT, view=_VIEW, age=_AGE, sex=sex)
    rows, _ = read_labels(table, columns)
    names = rows["image"]
    below = files_below(folder, follow_links=follow_links)
    paths = pd.Series([path for path in below if path.casefold().startswith("images") and "/" in path], dtype="str")
    on_disk = paths.map(posixpath.basename)
    is_first = ~on_disk.duplicated()
    splits, notes = _official_splits(folder)
    located = locate(rows, paths[is_first], on_disk[is_first])
    rows = located.assign(image=names, given_split=names.map(splits), box_file=names.map(_box_files(folder)))
    counts = {
        "Images on disk that the table does not name": int((is_first & ~on_disk.isin(names)).sum()),
        "Images on disk with the name of an image in another folder, which were not read": int((~is_first).sum()),
    }
    return list_rows(rows, vocabulary=LABELS, notes=[f"Labels are from {file.name}.", *notes], counts=counts)


def read_boxes(folders: Mapping[str, Path], rows: pd.DataFrame) -> pd.DataFrame:
    """Read the boxes around findings of images, rows of the manifest, from the lists in the folder of each source.

    There is one row per distinct box: ``sha256`` of the image, ``finding`` (a label of the label table), and ``SIDES``,
    fractions of the image's sides, float64 in [0, 1], clipped to the image. They stay valid in the prepared images,
    because the images of NIH are square. `UserError` is raised if a box list is missing or cannot be read.
    """
    types = {"sha256": "str", "finding": "str", **dict.fromkeys(SIDES, "float64")}
    parts = [pd.DataFrame(columns=list(types)).astype(types)]
    named = rows.assign(box_file=rows["box_file"].str.split("|")).explode("box_file").dropna(subset="box_file")
    for (source, name), images in named.groupby(["source", "box_file"]):
        boxes = _read_box_list(folders[str(source)], str(name))
        parts.append(boxes.merge(images[["image", "sha256"]], on="image").astype(types)[list(types)])
    return pd.concat(parts).drop_duplicates(ignore_index=True)


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


def _read_box_list(folder: Path, name: str) -> pd.DataFrame:
    # The manifest may have been edited: a name must not lead out of the source's folder.
    if not re.fullmatch(r"BBox[^/\\]*\.csv", name):
        raise UserError(
            f"The manifest lists {printable(name)!r} as a box list; expected the name of a file BBox*.csv in "
            f"{printable(str(folder))}. Create the manifest again: run the pipeline from its start."
        )
    with explained(folder / name, "the columns Image Index, Finding Label and Bbox [x,y,w,h] in pixels"):
        # The header has unquoted commas in its brackets, so that it has more cells than there are columns.
        table = pd.read_csv(
            folder / name,
            header=None,
            skiprows=1,
            usecols=range(6),
            names=_BOX_COLUMNS,
            encoding="utf-8-sig",
            dtype="str",
        )
        return _to_fractions(table)


def _to_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """Convert x, y, width and height in pixels to sides in [0, 1]."""
    x, y, width, height = (pd.to_numeric(table[column], errors="coerce") / _FRAME for column in _BOX_COLUMNS[2:])
    clipped = pd.DataFrame({"left": x, "top": y, "right": x + width, "bottom": y + height}).clip(0, 1)
    valid = clipped.notna().all(axis=1) & (clipped["left"] < clipped["right"]) & (clipped["top"] < clipped["bottom"])
    if not valid.all():
        row = int(valid.argmin())
        raise ValueError(f"row {row + 2} is not a box in the image: {', '.join(table.iloc[row, 2:].fillna('nothing'))}")
    labels = table["finding"].str.strip().replace(_RENAMED)
    return clipped.assign(image=table["image"].str.strip(), finding=labels)
