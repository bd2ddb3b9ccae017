"""Match the rows of label tables with the files of a source."""

import posixpath
import re
from collections.abc import Collection, Mapping

import pandas as pd

from cxr_pipeline.data.sources.listing import refuse

NO_FINDING = "No Finding"

_LEADS_OUT = re.compile(r"/|[A-Za-z]:/|\.\.(/|$)")


def refuse_contradictions(rows: pd.DataFrame, *, compatible: Collection[str] = ()) -> pd.DataFrame:
    """Refuse rows labelled both ``No Finding`` and with a finding, other than those in ``compatible``."""
    contradicting = [
        text
        for text in rows["labels"].dropna().unique()
        if NO_FINDING in (labels := {*text.split("|")}) and labels - {NO_FINDING, *compatible}
    ]
    return refuse(rows, rows["labels"].isin(contradicting), "contradicting_labels", f"{NO_FINDING} and a finding")


def normalise_paths(names: "pd.Series[str]") -> "pd.Series[str]":
    r"""Normalise paths: single forward slashes, without ``.`` and ``..``.

    Example:
        >>> normalise_paths(pd.Series([r"a\b.png", "./a//c/../b.png"])).tolist()
        ['a/b.png', 'a/b.png']
    """
    return names.str.replace("\\", "/").map(posixpath.normpath, na_action="ignore")


def index_by_name(paths: "pd.Series[str]", *spellings: "pd.Series[str]") -> dict[str, str | None]:
    """Map the possible names of images in a table to the paths of the images.

    The path is also a name; ``spellings`` are others in order of precedence, null where an image has none. A name is
    mapped to None if several images have it and it is not an earlier spelling of one of them.

    Example:
        >>> index_by_name(pd.Series(["a/1.png", "b/1.png", "2.png"]), pd.Series(["1", "1", "2"]))
        {'1': None, '2': '2.png', 'a/1.png': 'a/1.png', 'b/1.png': 'b/1.png', '2.png': '2.png'}
    """
    index: dict[str, str | None] = {}
    for names in (paths, *spellings):
        ambiguous = names.duplicated(keep=False)
        index = {
            name: None if several else path
            for name, path, several in zip(names, paths, ambiguous, strict=True)
            if isinstance(name, str)
        } | index
    return index


def locate(rows: pd.DataFrame, index: Mapping[str, str | None]) -> pd.DataFrame:
    """Find the images named by the rows of ``read_labels`` in an index by name.

    Returns:
        The rows with ``path``, null if the image is not on disk, and the path as ``image`` if it is. Rows of missing
        images are no longer refused, except for names that lead out of the folder or that several images have.
    """
    names = normalise_paths(rows["image"])
    paths = names.map({name: path for name, path in index.items() if path is not None}).astype("str")
    rows = rows.assign(
        image=paths.fillna(names),
        path=paths,
        reason=rows["reason"].where(paths.notna()),
        detail=rows["detail"].where(paths.notna()),
    )
    outside = names.str.match(_LEADS_OUT, na=False)
    rows = refuse(rows, outside, "outside_source", "its path in the table leads out of the source's folder")
    ambiguous = names.isin([name for name, path in index.items() if path is None])
    return refuse(rows, ambiguous, "unreadable", "several files have this name; the table must give the path")
