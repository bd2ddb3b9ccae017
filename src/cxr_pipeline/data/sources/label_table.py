"""Layout ``label_table``: images below a folder, and a CSV or Parquet table with their labels."""

import posixpath
from pathlib import Path

import pandas as pd

from cxr_pipeline.data.sources.folders import files_and_links_below, files_below, may_be_image
from cxr_pipeline.data.sources.label_tables import Columns, locate, read_label_table
from cxr_pipeline.data.sources.listing import Listing, list_rows, printable

EXPECTED = "images in it or below it, and a label table (CSV, CSV.gz or Parquet) that names them"

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")


def read(folder: Path, *, table: str, columns: Columns, follow_links: bool = False) -> Listing:
    """List the images that the file ``table`` in ``folder`` names and that are on disk.

    The table identifies an image by its path below ``folder`` or, if that is unique, by its file name. The suffix may
    be omitted.

    Args:
        folder: folder of the source.
        table: label table, relative to the folder.
        columns: names of its columns.
        follow_links: read links to folders, and images that are links out of the source's folder.
    """
    rows, vocabulary = read_label_table(folder, table, columns)
    own_path = posixpath.normpath(table)
    paths = pd.Series(
        [path for path in files_below(folder, follow_links=follow_links) if path != own_path], dtype="str"
    )
    names = paths.map(posixpath.basename)
    is_image = paths.map(may_be_image).astype("bool")
    # A table that omits suffixes does not mean a report beside the image.
    stems = paths.map(lambda path: posixpath.splitext(path)[0]).where(is_image)
    rows = locate(rows, paths, names, stems, stems.map(posixpath.basename, na_action="ignore"))
    unnamed = {"Images below the folder that the table does not name": int((~paths[is_image].isin(rows["path"])).sum())}
    notes = [f"Labels are from {printable(Path(table).name)}."]
    return list_rows(rows, vocabulary=vocabulary, notes=notes, counts=unnamed)


def holds_images(folder: Path) -> bool:
    """Return whether there is a file other than a table, or a link to a folder; stops at the first one."""
    return any(not path.lower().endswith(TABLE_SUFFIXES) for path in files_and_links_below(folder))
