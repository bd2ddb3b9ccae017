"""Bounding boxes around findings, as in the box lists of NIH ChestX-ray14.

The lists give pixels in NIH's frame of 1024 x 1024. Here a box is given in fractions of the image's sides, which stay
valid in the prepared image because NIH's images are square. Boxes of images with another aspect ratio would have to
follow the padding of ``resolution.mode: fit``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import explained, printable

SIDES = ("left", "top", "right", "bottom")

_FRAME = 1024
_COLUMNS = ("image", "finding", "x", "y", "width", "height")
# The box lists have one name that the label table of the same release does not have.
_RENAMED = {"Infiltrate": "Infiltration"}


def read_boxes(folders: Mapping[str, Path], rows: pd.DataFrame) -> pd.DataFrame:
    """Read the boxes of images, rows of the manifest, from the lists in the folder of each source.

    Returns:
        One row per distinct box: ``sha256`` of the image, ``finding`` (a label of the label table), ``left``, ``top``,
        ``right`` and ``bottom``, float64 in [0, 1]. Boxes are clipped to the image.

    Raises:
        UserError: a box list is missing or cannot be read, or its name is not that of a box list.
    """
    types = {"sha256": "str", "finding": "str", **dict.fromkeys(SIDES, "float64")}
    parts = [pd.DataFrame(columns=list(types)).astype(types)]
    named = rows.assign(box_file=rows["box_file"].str.split("|")).explode("box_file").dropna(subset="box_file")
    for (source, name), images in named.groupby(["source", "box_file"]):
        boxes = _read_list(folders[str(source)], str(name))
        parts.append(boxes.merge(images[["image", "sha256"]], on="image").astype(types)[list(types)])
    return pd.concat(parts).drop_duplicates(ignore_index=True)


def _read_list(folder: Path, name: str) -> pd.DataFrame:
    # The manifest may have been edited: a name must not lead out of the source's folder.
    if not re.fullmatch(r"BBox[^/\\]*\.csv", name):
        raise UserError(
            f"The manifest lists {printable(name)!r} as a box list; expected the name of a file BBox*.csv in "
            f"{printable(str(folder))}. Create the manifest again: run the pipeline from its start."
        )
    with explained(folder / name, "the columns Image Index, Finding Label and Bbox [x,y,w,h] in pixels"):
        # NIH's header has unquoted commas in its brackets, so that it has more cells than there are columns.
        table = pd.read_csv(
            folder / name, header=None, skiprows=1, usecols=range(6), names=_COLUMNS, encoding="utf-8-sig", dtype="str"
        )
        return _to_fractions(table)


def _to_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """Convert x, y, width and height in pixels to sides in [0, 1]."""
    x, y, width, height = (pd.to_numeric(table[column], errors="coerce") / _FRAME for column in _COLUMNS[2:])
    sides = pd.DataFrame({"left": x, "top": y, "right": x + width, "bottom": y + height})
    clipped = sides.clip(0, 1)
    valid = sides.notna().all(axis=1) & (clipped["left"] < clipped["right"]) & (clipped["top"] < clipped["bottom"])
    if not valid.all():
        row = int(valid.argmin())
        raise ValueError(f"row {row + 2} is not a box in the image: {', '.join(table.iloc[row, 2:].fillna('nothing'))}")
    labels = table["finding"].str.strip().replace(_RENAMED)
    return clipped.assign(image=table["image"].str.strip(), finding=labels)
