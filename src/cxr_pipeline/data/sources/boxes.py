"""Boxes that readers drew around findings, as the releases of NIH ChestX-ray14 list them.

The lists give pixels of NIH's frame of 1024 x 1024, which every image of that release fills; here a box is fractions of
the image's sides. These hold for the prepared image as well, whichever way it was resized, because NIH's images are
square. Boxes of images of another shape would have to follow the padding of ``resolution.mode: fit``.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import printable

SIDES = ("left", "top", "right", "bottom")

_FRAME = 1024
_HEADER = ("Image Index", "Finding Label", "Bbox")
_COLUMNS = ("image", "finding", *SIDES)
# The box lists have one name that the label table of the same release does not have.
_RENAMED = {"Infiltrate": "Infiltration"}


def read_boxes(folder: Path, box_files: "pd.Series[str]") -> pd.DataFrame:
    """Read the boxes of images.

    Args:
        folder: of the source.
        box_files: for each image, by ``image``, the names of the tables in ``folder`` with its boxes, joined by ``|``;
            null for none. A table's other images are passed over.

    Returns:
        A row for each box, once, in the order of the tables: ``image``, ``finding`` (the label of the label table),
        ``left``, ``top``, ``right`` and ``bottom``, float64 in [0, 1]. What lies outside the image is cut off.

    Raises:
        UserError: a table is named by a path, is not there, or cannot be read.
    """
    pairs = box_files.dropna().str.split("|").explode()
    parts = [pd.DataFrame(columns=list(_COLUMNS))]
    for name in sorted(pairs.unique()):
        table = _read_table(folder, name)
        parts.append(table[table["image"].isin(pairs.index[pairs == name])])
    types = {name: "float64" if name in SIDES else "str" for name in _COLUMNS}
    return pd.concat([part.astype(types) for part in parts]).drop_duplicates(ignore_index=True)


def read_image_boxes(folders: Mapping[str, Path], images: pd.DataFrame) -> pd.DataFrame:
    """Read the boxes of images of several sources.

    Args:
        folders: the folder of each source.
        images: rows of the manifest: ``source``, ``image``, ``sha256``, ``box_file``.

    Returns:
        As ``read_boxes``, with ``sha256`` of the image in place of ``image``.

    Raises:
        UserError: as ``read_boxes``.
    """
    parts = [read_boxes(Path(), pd.Series(dtype="str")).rename(columns={"image": "sha256"})]
    for source, rows in images.dropna(subset="box_file").groupby("source"):
        by_image = rows.set_index("image")
        boxes = read_boxes(folders[str(source)], by_image["box_file"])
        parts.append(boxes.assign(sha256=boxes["image"].map(by_image["sha256"])).drop(columns="image"))
    return pd.concat(parts, ignore_index=True)


def _read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read a table of boxes; pandas cannot, because NIH's header has unquoted commas inside its brackets.

    Raises:
        UserError: the name holds a path, or the table is not there or broken.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise UserError(
            f"The manifest names the table of boxes {printable(name)!r} by a path; expected the name of a file in "
            f"{printable(str(folder))}. Make the manifest again: run the pipeline from its start."
        )
    where = printable(str(folder / name))
    try:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            rows = list(_boxes(csv.reader(file)))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{where} cannot be read as a table of boxes: {error}. Expected a header with 'Image Index', 'Finding "
            "Label' and 'Bbox [x,y,w,h]', and in each row four numbers in pixels of a frame of 1024. Mend the table, "
            "or take it out of the folder and run the pipeline again from its start."
        ) from error
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _boxes(rows: Iterator[list[str]]) -> Iterator[tuple[str, str, float, float, float, float]]:
    """Read rows of a table of boxes.

    Raises:
        ValueError: the header or a row is none.
    """
    header = [cell.partition(" [")[0].strip() for cell in next(rows, [])]
    missing = [name for name in _HEADER if name not in header]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    image, finding, first = (header.index(name) for name in _HEADER)
    for number, row in enumerate(rows, start=2):
        if any(cell.strip() for cell in row):
            try:
                # Where the header is quoted, the four numbers may lie in one cell.
                cells = row[first].strip(" []").split(",") if "," in row[first] else row[first : first + 4]
                label = row[finding].strip()
                yield row[image].strip(), _RENAMED.get(label, label), *_fractions(cells)
            except (IndexError, ValueError) as error:
                raise ValueError(f"row {number} is no box ({error})") from error


def _fractions(cells: list[str]) -> tuple[float, float, float, float]:
    """Turn x, y, width and height in pixels into sides in [0, 1].

    Raises:
        ValueError: they are not four numbers, or nothing of the box lies in the image.
    """
    x, y, width, height = (float(cell) / _FRAME for cell in cells)
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in (x, y, x + width, y + height))
    if not (left < right and top < bottom):
        raise ValueError("nothing of it lies in the image")
    return left, top, right, bottom
