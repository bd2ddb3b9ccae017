"""What a layout yields: the rows of a source, before anything is read from its images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

IMAGE_COLUMNS = {
    "image": "str",
    "path": "str",
    "patient_id": "str",
    "labels": "str",
    "uncertain": "str",
    "unknown": "str",
    "view": "str",
    "age": "float64",
    "sex": "str",
    "given_split": "str",
    "box_file": "str",
}


@dataclass(frozen=True)
class Listing:
    """The rows of one source.

    Args:
        images: one row per image on disk, with ``IMAGE_COLUMNS``: ``image`` (unique id), ``path`` (where the source's
            reader finds it), ``patient_id``, ``labels`` (the source's own, joined by ``|``; empty where it is known
            to have none), ``uncertain`` and ``unknown`` (labels that the source is not sure of, and those that it
            says nothing about, joined by ``|``), ``view``, ``age`` (years), ``sex`` (``F``, ``M``), ``given_split``
            (``train``, ``validation``, ``test``) and ``box_file`` (names of the tables with its boxes, joined by
            ``|``); null where unknown.
        refused: rows that cannot be used: ``image``, ``reason``, ``detail``.
        n_missing: rows whose image is not on disk.
        notes: sentences for the data report; they name no patient.
        vocabulary: labels that the source is known to use. A row with only such labels may be left out of
            a task; any other label is unknown.
        n_left_out: rows that the layout itself leaves out, such as lateral images.
    """

    images: pd.DataFrame
    refused: pd.DataFrame
    n_missing: int = 0
    notes: tuple[str, ...] = ()
    vocabulary: frozenset[str] = field(default_factory=frozenset)
    n_left_out: int = 0

    @property
    def n_rows(self) -> int:
        """Rows of the source: images, refused, missing and left out."""
        return len(self.images) + len(self.refused) + self.n_missing + self.n_left_out


def image_table(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Give every column of ``IMAGE_COLUMNS`` its type, and fill those that are not there with nulls.

    The rows are ordered by ``image``, so that no file system decides their order.
    """
    table = pd.DataFrame(dict(columns)).reset_index(drop=True).reindex(columns=list(IMAGE_COLUMNS))
    return table.astype(IMAGE_COLUMNS).sort_values("image", kind="stable", ignore_index=True)


def refusal_table(rows: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Make a table of refusals from triples of image, reason and detail."""
    return pd.DataFrame(list(rows), columns=["image", "reason", "detail"]).astype("str")


def printable(name: str) -> str:
    r"""Replace the bytes of a file name that are not UTF-8, so that every table and screen can hold it.

    Example:
        >>> printable("image\udcff.png")
        'image\\xff.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
