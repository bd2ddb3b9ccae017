"""Layout ``label_table``: images below a folder, and a CSV or Parquet table with their labels."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_tables import Columns, list_rows, read_label_table
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.readers import FileReader

EXPECTED = "images in it or below it, and a label table (CSV, CSV.gz or Parquet) that names them"

_TABLES = (".csv", ".csv.gz", ".parquet", ".pq")
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")
_LEADS_OUT = re.compile(r"/|[A-Za-z]:/|\.\.(/|$)")


def read(folder: Path, *, table: str, columns: Mapping[str, Any]) -> Listing:
    """List the images that a label table names and that are on disk.

    An image is named by its path below ``folder`` or, where that is not ambiguous, by its file name; the suffix may be
    left out. Links to folders are not followed.

    Args:
        folder: the source's folder.
        table: the table's file, relative to ``folder``.
        columns: the fields of ``label_tables.Columns``.

    Raises:
        UserError: the table cannot be read or lacks a column, or the folder cannot be listed.
    """
    rows, vocabulary = read_label_table(folder / table, Columns(**columns))
    paths = [path for path in files_below(folder) if path != posixpath.normpath(table)]
    rows = place(rows.assign(image=normal(rows["image"])), _places(paths))
    n_unnamed = len(set(paths) - set(rows["path"].dropna()))
    notes = [f"Labels are from {printable(Path(table).name)}."]
    if n_unnamed:
        notes.append(f"Files below the folder that the table does not name: {n_unnamed}.")
    return list_rows(rows, vocabulary=vocabulary, notes=tuple(notes))


def reader(folder: Path, **_: object) -> FileReader:
    """Give what reads the images that ``read`` lists."""
    return FileReader(folder)


def holds_images(folder: Path) -> bool:
    """Tell whether any file but a table lies below the folder; stops at the first."""
    return folder.is_dir() and any(not path.endswith(_TABLES) for path in files_below(folder))


def files_below(folder: Path) -> Iterator[str]:
    """Go through the files below a folder as POSIX paths, without a look at them.

    Hidden files, the litter of operating systems and names that are not UTF-8 are passed over.

    Raises:
        UserError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise UserError(
            f"the images in {printable(str(folder))} cannot be listed: {error}. "
            "Mend the source's path, or let this user read it."
        ) from error

    for above, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if _is_wanted(name))
        inside = os.path.relpath(above, folder).replace(os.sep, "/")
        start = "" if inside == "." else f"{inside}/"
        yield from (start + name for name in sorted(files) if _is_wanted(name))


def place(rows: pd.DataFrame, places: Mapping[str, str | None]) -> pd.DataFrame:
    """Find the images that rows name.

    Args:
        rows: from ``read_labels``, with names from ``normal`` as ``image``.
        places: paths by name, ``None`` where several images have that name.

    Returns:
        rows with ``path``, null where the image is not on disk. Only rows of images that are there keep their reason to
        be refused; a name that leads out of the folder, or that several images have, is another.
    """
    names = rows["image"]
    out = names.str.match(_LEADS_OUT, na=False)
    several = names.isin([name for name, path in places.items() if path is None])
    paths = names.map({name: path for name, path in places.items() if path is not None}).astype("str")
    rows = rows.assign(
        path=paths, reason=rows["reason"].where(paths.notna()), detail=rows["detail"].where(paths.notna())
    )
    refused = [
        (out, "outside_source", "the table names it by a path that leads out of the source's folder"),
        (several, "unreadable", "several files have this name; the table must name it by its path"),
    ]
    for case, reason, detail in refused:
        rows = rows.assign(reason=rows["reason"].mask(case, reason), detail=rows["detail"].mask(case, detail))
    return rows


def normal(names: "pd.Series[str]") -> "pd.Series[str]":
    """Write paths with single slashes and without steps back and forth."""
    return names.str.replace("\\", "/").map(posixpath.normpath, na_action="ignore")


def _places(paths: Sequence[str]) -> dict[str, str | None]:
    """Map what a table may call an image to its path: path, file name, either without suffix, the first that fits."""
    places: dict[str, str | None] = {}
    for called in (str, posixpath.basename, _without_suffix, lambda path: _without_suffix(posixpath.basename(path))):
        found: dict[str, str | None] = {}
        for path in paths:
            name = called(path)
            found[name] = None if name in found else path
        places = found | places
    return places


def _without_suffix(path: str) -> str:
    return posixpath.splitext(path)[0]


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _LITTER and printable(name) == name
