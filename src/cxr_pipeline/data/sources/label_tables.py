"""Read label tables, CSV or Parquet, with the labels in one column or in a column each, and find their images."""

import posixpath
import re
import unicodedata
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import SPLIT_NAMES, printable, refuse
from cxr_pipeline.data.sources.readings import Combination, combine_readings
from cxr_pipeline.data.sources.table_files import read_table

NO_FINDING = "No Finding"

_POSITIVE, _NEGATIVE, _UNCERTAIN = 1.0, 0.0, -1.0
# Spreadsheet programs write true and false in the language of the user.
_CELLS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "positive", "ja", "wahr", "oui", "vrai"), _POSITIVE),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "negative", "nein", "falsch", "non", "faux"), _NEGATIVE),
    **dict.fromkeys(("-1", "-1.0"), _UNCERTAIN),
}
_SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}
# Units of the DICOM value representation AS (age string), PS3.5 section 6.2.
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_MAX_AGE = 120
_LIST = re.compile(r"\[(?P<items>.*)\]", re.DOTALL)
_QUOTED = re.compile(r"""(['"])(?P<label>.*?)\1""")
_LEADS_OUT = re.compile(r"/|[A-Za-z]:/|\.\.(/|$)")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a label table; None for columns that the table does not have.

    Args:
        image: path of the image below the source's folder, or its file name; for DICOM also its SOP instance UID.
        labels: labels of the image, joined by ``separator`` or as a list in brackets. Either this or ``one_hot``.
        separator: one or more characters.
        one_hot: columns named after a label: 1, true, yes and positive mean that the label is present; 0, false, no and
            negative that it is absent; -1 that the source is uncertain. A row with any other text is refused.
        blank: meaning of an empty cell in a column of ``one_hot``.
        patient_id: patient id.
        view: view position, such as ``PA``.
        age: age in years, or with a unit as in ``006M``.
        sex: ``F`` or ``M``, or the words.
        split: ``train``, ``val``, ``valid``, ``validation`` or ``test``, in any case.
        reader: who labelled the image, if a table has rows of several readers for an image.
        combine: labels of an image with several rows; see ``combine_readings``. If it is None, the rows have to agree.

    Raises:
        ValueError: there are no labels, or both kinds, or the separator is empty, or ``reader`` is given without
            ``combine``.
    """

    image: str
    labels: str | None = None
    separator: str = "|"
    one_hot: tuple[str, ...] = ()
    blank: Literal["negative", "unknown"] = "unknown"
    patient_id: str | None = None
    view: str | None = None
    age: str | None = None
    sex: str | None = None
    split: str | None = None
    reader: str | None = None
    combine: Combination | None = None

    def __post_init__(self) -> None:
        if (self.labels is None) == (not self.one_hot):
            raise ValueError("expected either labels (one column) or one_hot (a column for each label)")
        if not self.separator:
            raise ValueError("separator: expected one or more characters, found none")
        if self.reader is not None and self.combine is None:
            raise ValueError("reader: expected combine to be any, majority or unanimous as well, found none")

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        single = (self.image, self.labels, self.patient_id, self.view, self.age, self.sex, self.split, self.reader)
        return [*filter(None, single), *self.one_hot]


def read_label_table(folder: Path, table: str, columns: Columns) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read rows and vocabulary, as from ``read_labels``, of a label table; all named columns are required.

    Absolute paths of images below ``folder`` become relative to it.

    Raises:
        UserError: the table is missing, cannot be read, lacks a column, or has an unknown split.
    """
    file = folder / table
    cells = read_table(file, columns.names)
    try:
        rows, vocabulary = read_labels(cells, columns)
    except UserError as error:
        raise UserError(f"{printable(str(file))}: {error}") from error
    images = normalise_paths(rows["image"])
    for place in (folder.absolute(), folder.resolve()):
        images = images.str.removeprefix(f"{place.as_posix()}/")
    rows = rows.assign(image=images)
    if columns.combine is not None:
        reader = cells[columns.reader] if columns.reader else pd.Series(None, rows.index, dtype="str")
        rows = combine_readings(rows, reader, columns.combine)
    return rows, vocabulary


def read_labels(table: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read labels and metadata of images from the rows of ``read_table``. Missing columns are filled with nulls.

    Returns:
        Rows with the index of ``table``: ``image``, ``labels``, ``uncertain``, ``unknown``, ``patient_id``, ``view``,
        ``age``, ``sex`` and ``given_split`` as in a ``Listing``, and ``reason`` and ``detail``, null unless the row
        is refused. And the vocabulary: the columns of ``one_hot``, or all labels in the table.

    Raises:
        UserError: a split is unknown.
    """

    def column(name: str | None) -> "pd.Series[str]":
        return table[name] if name in table else pd.Series(None, table.index, dtype="str", name=name)

    if columns.one_hot:
        rows, vocabulary = _one_hot(table[list(columns.one_hot)], columns.blank), frozenset(columns.one_hot)
    else:
        rows, vocabulary = _separated(column(columns.labels), columns.separator)
    rows = rows.assign(
        image=table[columns.image],
        patient_id=column(columns.patient_id),
        view=column(columns.view).str.upper(),
        age=years(column(columns.age)),
        sex=column(columns.sex).str.casefold().map(_SEXES),
        given_split=_splits(column(columns.split)),
    )
    return rows, vocabulary


def years(ages: "pd.Series[str]") -> "pd.Series[float]":
    """Convert ages such as ``58``, ``058Y`` or ``006M`` to years; null if invalid or above 120.

    Example:
        >>> years(pd.Series(["058Y", "006M", "414"])).tolist()
        [58.0, 0.5, nan]
    """
    # Spreadsheet programs write the decimal point of the language of the user.
    parts = ages.str.upper().str.replace(",", ".").str.extract(r"^(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[YMWD]?)$")
    years = parts["number"].astype("float64") * parts["unit"].replace("", "Y").map(_YEARS).astype("float64")
    return years.where(years <= _MAX_AGE)


def refuse_contradictions(rows: pd.DataFrame, *, compatible: Collection[str] = ()) -> pd.DataFrame:
    """Refuse rows labelled both ``No Finding`` and with a finding, other than those in ``compatible``."""
    contradicting = [
        text
        for text in rows["labels"].dropna().unique()
        if NO_FINDING in (labels := {*text.split("|")}) and labels - {NO_FINDING, *compatible}
    ]
    return refuse(rows, rows["labels"].isin(contradicting), "contradicting_labels", f"{NO_FINDING} and a finding")


def normalise_paths(names: "pd.Series[str]") -> "pd.Series[str]":
    r"""Normalise paths: single forward slashes, without ``.`` and ``..``, and Unicode in composed form.

    Example:
        >>> normalise_paths(pd.Series([r"a\b.png", "./a//c/../b.png"])).tolist()
        ['a/b.png', 'a/b.png']
    """
    composed = names.str.replace("\\", "/").str.normalize("NFC")
    return composed.map(posixpath.normpath, na_action="ignore").astype("str")


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
            # Some file systems write "ü" as two characters.
            unicodedata.normalize("NFC", name): None if several else path
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
    rows = refuse(rows, outside, "outside_source", "its path in the table is not below the source's folder")
    ambiguous = names.isin([name for name, path in index.items() if path is None])
    return refuse(rows, ambiguous, "unreadable", "several files have this name; the table must give the path")


def _splits(words: "pd.Series[str]") -> "pd.Series[str]":
    splits = words.str.casefold().map(SPLIT_NAMES)
    unknown = words[words.notna() & splits.isna()]
    if len(unknown):
        raise UserError(
            f"the column {words.name} has '{unknown.iloc[0][:40]}'; expected one of {', '.join(SPLIT_NAMES)}, or an "
            "empty cell. Fix the table, or set the source's columns.split to null."
        )
    return splits


def _separated(cells: "pd.Series[str]", separator: str) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read labels from one column: in each row sorted and without duplicates."""
    labels = {text: sorted({*_labels_of(text, separator)} - {""}) for text in cells.dropna().unique()}
    joined = cells.map({text: "|".join(found) for text, found in labels.items() if found})
    nothing = dict.fromkeys(("uncertain", "unknown", "reason", "detail"))
    return pd.DataFrame({"labels": joined, **nothing}, dtype="str"), frozenset().union(*labels.values())


def _labels_of(text: str, separator: str) -> list[str]:
    """Divide a cell at the separator, or a list such as ``['Mass', 'Edema']`` or ``[Mass, Edema]`` into its items."""
    written = _LIST.fullmatch(text)
    if written is None:
        return [label.strip() for label in text.split(separator)]
    quoted = [match["label"].strip() for match in _QUOTED.finditer(written["items"])]
    return quoted or [label.strip() for label in written["items"].split(",")]


def _one_hot(cells: pd.DataFrame, blank: str) -> pd.DataFrame:
    values = cells.apply(_cell_values)
    invalid = values.isna() & cells.notna()
    if blank == "negative":
        values = values.fillna(_NEGATIVE)
    refused = cells.where(invalid)[invalid.any(axis="columns")]
    details = [_describe_invalid(row) for row in refused.to_dict("records")]
    return pd.DataFrame(
        {
            "labels": _joined(values == _POSITIVE).mask(values.isna().all(axis="columns")),
            "uncertain": _joined(values == _UNCERTAIN).replace("", None),
            "unknown": _joined(values.isna()).replace("", None),
            "reason": pd.Series("unknown_label", refused.index),
            "detail": pd.Series(details, refused.index),
        },
        index=cells.index,
        dtype="str",
    )


def _cell_values(cells: "pd.Series[str]") -> "pd.Series[float]":
    return cells.map({text: _CELLS.get(text.casefold()) for text in cells.dropna().unique()}).astype("float64")


def _describe_invalid(row: Mapping[Hashable, object]) -> str:
    column, value = next((column, value) for column, value in row.items() if isinstance(value, str))
    return f"the column {column} has '{value[:40]}'; expected 1, 0, -1 or an empty cell"


def _joined(chosen: pd.DataFrame) -> "pd.Series[str]":
    """Join the names of the columns that are true in each row."""
    # Releases have 200,000 rows but few distinct combinations: only those are joined.
    patterns, of_row = np.unique(chosen.to_numpy(), axis=0, return_inverse=True)
    texts = np.array(["|".join(chosen.columns[pattern]) for pattern in patterns], dtype=object)
    return pd.Series(texts[of_row], chosen.index, dtype="str")
