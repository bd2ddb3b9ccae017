"""The rows of a source, as listed by its layout before any image is read."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.files import explain_damage

IMAGE_COLUMNS = {
    **dict.fromkeys(("image", "path", "patient_id", "labels", "uncertain", "unknown", "outvoted", "view"), "str"),
    "age": "float64",
    **dict.fromkeys(("sex", "given_split", "box_file"), "str"),
}

SPLIT_NAMES = {"train": "train", **dict.fromkeys(("val", "valid", "validation"), "validation"), "test": "test"}


@dataclass(frozen=True)
class Listing:
    """The rows of one source.

    Args:
        images: one row per image on disk, with ``IMAGE_COLUMNS``, null where unknown: ``image`` (unique id), ``path``
            (passed to the source's reader), ``patient_id``, ``labels`` (the source's own; empty if the image is known
            to have none), ``uncertain`` (labels marked uncertain), ``unknown`` (labels that the source does not
            mention), ``outvoted`` (labels that only a minority of the readers found), ``view``, ``age`` (years),
            ``sex`` (``F``, ``M``), ``given_split`` (``train``, ``validation``, ``test``) and ``box_file`` (names of
            the box lists). Labels and names of lists are joined by ``|``.
        refused: rows that cannot be used: ``image``, ``reason``, ``detail``.
        n_missing: number of rows whose image is not on disk.
        notes: sentences for the data report. They must not name patients.
        vocabulary: labels that the source is known to use. Rows with any other label are refused.
        n_left_out: number of rows that the layout itself leaves out, such as lateral images.
        missing: name of one of the images that are not on disk, or its first characters.
        n_repeated: number of rows that repeat another row of the same image.
    """

    images: pd.DataFrame
    refused: pd.DataFrame
    n_missing: int = 0
    notes: tuple[str, ...] = ()
    vocabulary: frozenset[str] = field(default_factory=frozenset)
    n_left_out: int = 0
    missing: str | None = None
    n_repeated: int = 0

    @property
    def n_rows(self) -> int:
        """Number of rows in the source."""
        return len(self.images) + len(self.refused) + self.n_missing + self.n_left_out + self.n_repeated


def list_rows(
    rows: pd.DataFrame,
    *,
    vocabulary: Iterable[str] = (),
    notes: Sequence[str] = (),
    counts: Mapping[str, int] | None = None,
    n_left_out: int = 0,
) -> Listing:
    """Return the listing of rows, sorted by ``image`` so that their order does not depend on the file system.

    The rows have some of ``IMAGE_COLUMNS``, and ``reason`` and ``detail`` if they are refused. Rows without ``path``
    are missing, unless they are refused. Rows of the same image that agree on labels, patient and split, as in a table
    with a row for each box, are counted and used once; otherwise all of them are refused. ``counts`` above 0 become
    notes such as ``Links that were not followed: 2.``
    """
    types = {**IMAGE_COLUMNS, "reason": "str", "detail": "str"}
    rows = rows.reset_index(drop=True).reindex(columns=list(types)).astype(types)
    missing = rows["path"].isna() & rows["reason"].isna()
    names = rows.loc[missing, "image"].dropna()
    n_rows = int((~missing).sum())
    rows = _merge_repeated(rows[~missing].fillna({"image": ""}))
    rows = rows.sort_values(["image", "reason", "detail"], kind="stable")
    refused = rows["reason"].notna()
    return Listing(
        rows.loc[~refused, list(IMAGE_COLUMNS)].reset_index(drop=True),
        rows.loc[refused, ["image", "reason", "detail"]].reset_index(drop=True),
        n_missing=int(missing.sum()),
        missing=str(names.min())[:80] if len(names) else None,
        n_repeated=n_rows - len(rows),
        n_left_out=n_left_out,
        notes=(*notes, *(f"{text}: {count}." for text, count in (counts or {}).items() if count)),
        vocabulary=frozenset(vocabulary),
    )


def refuse(rows: pd.DataFrame, case: "pd.Series[bool]", reason: str, detail: "str | pd.Series[str]") -> pd.DataFrame:
    """Set ``reason`` and ``detail`` of the rows in ``case``."""
    return rows.assign(reason=rows["reason"].mask(case, reason), detail=rows["detail"].mask(case, detail))


def name_labels(rows: pd.DataFrame, texts: "pd.Series[str]", names: Sequence[str]) -> pd.DataFrame:
    """Set the ``labels`` of rows to the names with these numbers, given as text; refuse rows with any other text."""
    # Through numbers, because an exporter may write 1 as 1.0.
    labels = pd.to_numeric(texts, errors="coerce").astype("float64").map(dict(enumerate(names))).astype("str")
    detail = "label '" + texts.str[:20] + f"'; expected a whole number from 0 to {len(names) - 1}"
    rows = rows.assign(labels=labels, reason=None, detail=None)
    return refuse(rows, texts.notna() & labels.isna(), "unknown_label", detail)


def _merge_repeated(rows: pd.DataFrame) -> pd.DataFrame:
    content = rows[["labels", "uncertain", "unknown", "patient_id", "given_split", "reason"]].astype("str").fillna("")
    version = content.groupby(list(content), sort=False).ngroup()
    usable = rows["path"].notna() & rows["reason"].isna()
    conflicting = usable & (version.groupby(rows["path"]).transform("nunique") > 1)
    repeated = usable & rows["path"].duplicated() & ~conflicting
    detail = "several rows with different labels, patients or splits (a label_table can set columns.combine)"
    return refuse(rows, conflicting, "contradicting_labels", detail)[~repeated]


def explained(file: Path, expected: str) -> AbstractContextManager[None]:
    """Raise a ``UserError`` that says what was expected instead of any error caused by a damaged or missing file."""
    return explain_damage(printable(str(file)), f"Expected {expected}. Fix the file or its path.")


def printable(name: str) -> str:
    r"""Escape the bytes of a file name that are not UTF-8, so that tables and terminals can hold it.

    Example:
        >>> printable("image\udcff.png")
        'image\\xff.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
