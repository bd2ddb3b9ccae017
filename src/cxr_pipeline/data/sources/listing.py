"""The rows of a source as a layout lists them, before any image is read."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError

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

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Listing:
    """The rows of one source.

    Args:
        images: one row per image on disk, with ``IMAGE_COLUMNS``, null where unknown: ``image`` (unique id), ``path``
            (passed to the source's reader), ``patient_id``, ``labels`` (the source's own, joined by ``|``; empty if the
            image is known to have none), ``uncertain`` and ``unknown`` (labels marked uncertain, and labels that the
            source does not mention, joined by ``|``), ``view``, ``age`` (years), ``sex`` (``F``, ``M``),
            ``given_split`` (``train``, ``validation``, ``test``) and ``box_file`` (names of the box lists, joined by
            ``|``).
        refused: rows that cannot be used: ``image``, ``reason``, ``detail``.
        n_missing: number of rows whose image is not on disk.
        notes: sentences for the data report. They must not name patients.
        vocabulary: labels that the source is known to use. A task may leave out rows that have only such labels; rows
            with any other label are refused as ``unknown_label``.
        n_left_out: number of rows that the layout itself leaves out, such as lateral images.
    """

    images: pd.DataFrame
    refused: pd.DataFrame
    n_missing: int = 0
    notes: tuple[str, ...] = ()
    vocabulary: frozenset[str] = field(default_factory=frozenset)
    n_left_out: int = 0

    @property
    def n_rows(self) -> int:
        """Number of rows in the source: images, refused, missing and left out."""
        return len(self.images) + len(self.refused) + self.n_missing + self.n_left_out


def image_table(columns: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """Return a table with ``IMAGE_COLUMNS`` and their types, with nulls in the columns not given.

    Rows are sorted by ``image``, so that their order does not depend on the file system.
    """
    table = pd.DataFrame(columns).reset_index(drop=True).reindex(columns=list(IMAGE_COLUMNS))
    return table.astype(IMAGE_COLUMNS).sort_values("image", kind="stable", ignore_index=True)


def refusal_table(rows: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Return a sorted table of refusals from tuples of image, reason and detail."""
    return pd.DataFrame(sorted(rows), columns=["image", "reason", "detail"]).astype("str")


def list_container(rows: pd.DataFrame, label_texts: "pd.Series[str]", names: Sequence[str]) -> Listing:
    """List the images of a file that holds all images of a source.

    Args:
        rows: some of ``IMAGE_COLUMNS``, with null ``labels`` where a label has no name.
        label_texts: the labels as they are in the file. Rows with a text but null ``labels`` are refused.
        names: names of the labels, in the order of their numbers.
    """
    unnamed = label_texts.notna() & rows["labels"].isna()
    details = "label '" + label_texts[unnamed].str[:20] + f"'; expected a whole number from 0 to {len(names) - 1}"
    return Listing(
        image_table(rows[~unnamed]),
        refusal_table(
            (image, "unknown_label", detail) for image, detail in zip(rows["image"][unnamed], details, strict=True)
        ),
        vocabulary=frozenset(names),
    )


def count_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the notes whose count is above 0.

    Example:
        >>> count_notes({"Links that were not followed": 2, "Files that were not read": 0})
        ('Links that were not followed: 2.',)
    """
    return tuple(f"{text}: {count}." for text, count in counts.items() if count)


@contextmanager
def explained(file: Path, expected: str) -> Iterator[None]:
    """Raise a ``UserError`` in place of any error that a damaged or missing file causes.

    Args:
        file: the file that is read in the block.
        expected: what the file should contain, for the message.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else error
        place = printable(str(file))
        raise UserError(f"{place} cannot be read: {reason}. Expected {expected}. Fix the file or its path.") from error


def printable(name: str) -> str:
    r"""Escape the bytes of a file name that are not UTF-8, so that tables and terminals can hold it.

    Example:
        >>> printable("image\udcff.png")
        'image\\xff.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
