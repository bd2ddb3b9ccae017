"""Label tables: CSV or Parquet, labels in one column or in a column each."""

import difflib
import zlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.class_folders import SPLIT_FOLDERS
from cxr_pipeline.data.sources.listing import Listing, image_table, printable, refusal_table

_POSITIVE, _NEGATIVE, _UNCERTAIN = 1.0, 0.0, -1.0
_CELLS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), _POSITIVE),
    **dict.fromkeys(("0", "0.0", "false", "no"), _NEGATIVE),
    **dict.fromkeys(("-1", "-1.0"), _UNCERTAIN),
}
_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_OLDEST = 120


@dataclass(frozen=True)
class Columns:
    """Which column of a label table says what; a column that is ``None`` is not there.

    Args:
        image: names the image.
        labels: holds the labels of an image, joined by ``separator``. Either this or ``one_hot``.
        separator: one character or more.
        one_hot: columns that are named by a label; their cells are read by ``read_labels``.
        blank: what an empty cell means in a column of ``one_hot``.
        patient_id: whose image it is.
        view: such as ``PA``.
        age: in years, or with a unit as in ``006M``.
        sex: ``F`` or ``M``, or the words.
        split: ``train``, ``val``, ``valid``, ``validation`` or ``test``, in any case.
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

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that must be there, each once."""
        single = (self.image, self.labels, self.patient_id, self.view, self.age, self.sex, self.split)
        return tuple(dict.fromkeys([*(name for name in single if name is not None), *self.one_hot]))


def read_label_table(file: Path, columns: Columns) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read a label table.

    Args:
        file: ``.parquet`` or ``.pq``; anything else is read as CSV in UTF-8, unpacked where it ends in ``.gz``.
        columns: which column says what.

    Returns:
        rows and vocabulary, as from ``read_labels``.

    Raises:
        UserError: the table is not there, cannot be read, lacks a column, or names a split that is none.

    Example:
        >>> read_label_table(Path("labels.csv"), Columns(image="image", labels="finding"))  # doctest: +SKIP
    """
    table = read_table(file, columns.names)
    try:
        return read_labels(table, columns)
    except UserError as error:
        raise UserError(f"{printable(str(file))}: {error}") from error


def read_table(file: Path, names: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of a CSV or Parquet table as text without spaces around it; null where there is none.

    Args:
        file: as for ``read_label_table``.
        names: columns that must be there.
        optional: columns that are read where they are there.

    Raises:
        UserError: the table cannot be read or lacks a column.
    """
    place, wanted = printable(str(file)), {*names, *optional}
    reader = _read_parquet if file.suffix in (".parquet", ".pq") else _read_csv
    try:
        table, found = reader(file, wanted)
    except FileNotFoundError as error:
        raise UserError(
            f"{place} is not there. Expected a label table (CSV, CSV.gz or Parquet); mend the source's path or table."
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{place} cannot be read as a table: {error}. Expected Parquet, or UTF-8 text with commas and a header."
        ) from error
    missing = [name for name in names if name not in table]
    if missing:
        close = [match for name in missing for match in difflib.get_close_matches(name, found, n=1)]
        hint = f"; did you mean {', '.join(close)}?" if close else "."
        raise UserError(f"{place} has no column {', '.join(missing)}{hint} Found {', '.join(found) or 'none'}.")
    stripped = {name: table[name].str.strip() for name in table}
    return pd.DataFrame({name: cells.mask(cells == "") for name, cells in stripped.items()}, table.index)


def _read_csv(file: Path, wanted: Collection[str]) -> tuple[pd.DataFrame, list[str]]:
    found: list[str] = []

    def is_wanted(name: str) -> bool:
        found.append(name.strip())
        return name.strip() in wanted

    table = pd.read_csv(
        file,
        dtype="str",
        encoding="utf-8-sig",
        usecols=is_wanted,
        keep_default_na=False,
        na_values=[""],
        compression="gzip" if file.suffix == ".gz" else None,
    )
    return table.rename(columns=str.strip), list(dict.fromkeys(found))


def _read_parquet(file: Path, wanted: Collection[str]) -> tuple[pd.DataFrame, list[str]]:
    from pyarrow import parquet

    found = parquet.read_schema(file).names
    present = [name for name in found if name in wanted]
    return pd.read_parquet(file, columns=present, dtype_backend="pyarrow").astype("str"), found


def read_labels(table: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, frozenset[str]]:
    """Say of each row of a table what it says of its image.

    In a column of ``one_hot``, 1, true and yes mean that the label is there, 0, false and no that it is not, -1 that
    the source is uncertain. A row with anything else is refused.

    Args:
        table: from ``read_table``.
        columns: which column says what.

    Returns:
        rows with the index of ``table``: ``image``, ``labels``, ``uncertain``, ``unknown``, ``patient_id``, ``view``,
        ``age``, ``sex`` and ``given_split`` as in a ``Listing``, and ``reason`` and ``detail``, null unless the row
        is refused; and the vocabulary: the columns of ``one_hot``, or all labels seen.

    Raises:
        UserError: a split is none.
    """
    if columns.one_hot:
        said, vocabulary = _one_hot(table[list(columns.one_hot)], columns.blank), frozenset(columns.one_hot)
    else:
        said, vocabulary = _listed(_column(table, columns.labels), columns.separator)
    rows = said.assign(
        image=table[columns.image],
        patient_id=_column(table, columns.patient_id),
        view=_column(table, columns.view).str.upper(),
        age=years(_column(table, columns.age)),
        sex=_column(table, columns.sex).str.casefold().map(_SEXES),
        given_split=_splits(_column(table, columns.split)),
    )
    return rows, vocabulary


def years(ages: "pd.Series[str]") -> "pd.Series[float]":
    """Read ages such as ``58``, ``058Y`` or ``006M``; null where there is none, or none that a person reaches."""
    parts = ages.str.upper().str.extract(r"^(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[YMWD]?)$")
    years = parts["number"].astype("float64") * parts["unit"].replace("", "Y").map(_YEARS).astype("float64")
    return years.where(years <= _OLDEST)


def _column(table: pd.DataFrame, name: str | None) -> "pd.Series[str]":
    return pd.Series(None, table.index, dtype="str") if name is None else table[name]


def _splits(words: "pd.Series[str]") -> "pd.Series[str]":
    splits = words.str.casefold().map(SPLIT_FOLDERS)
    strange = words[words.notna() & splits.isna()]
    if len(strange):
        raise UserError(
            f"{words.name} holds '{strange.iloc[0]}'; expected one of {', '.join(SPLIT_FOLDERS)}, or nothing. "
            "Mend it, or set the source's columns.split to null."
        )
    return splits


def _listed(cells: "pd.Series[str]", separator: str) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read labels from one column; in each row sorted, each once."""
    found = {
        text: sorted({label.strip() for label in text.split(separator)} - {""}) for text in cells.dropna().unique()
    }
    texts = {text: "|".join(labels) for text, labels in found.items() if labels}
    rows = pd.DataFrame({"labels": cells.map(texts)}, dtype="str")
    nothing = pd.Series(None, cells.index, dtype="str")
    rows = rows.assign(uncertain=nothing, unknown=nothing, reason=nothing, detail=nothing)
    return rows, frozenset().union(*found.values())


def _one_hot(cells: pd.DataFrame, blank: str) -> pd.DataFrame:
    """Read labels from a column each."""
    values = cells.apply(_cell_values)
    strange = values.isna() & cells.notna()
    if blank == "negative":
        values = values.fillna(_NEGATIVE)
    unknown = _joined(values.isna())
    nothing_known = values.isna().all(axis="columns")
    refused = strange.any(axis="columns")
    details = [_strange_cell(row) for row in cells[refused].where(strange[refused]).to_dict("records")]
    return pd.DataFrame(
        {
            "labels": _joined(values == _POSITIVE).mask(nothing_known),
            "uncertain": _joined(values == _UNCERTAIN).replace("", None),
            "unknown": unknown.replace("", None),
            "reason": pd.Series("unknown_label", cells.index[refused]),
            "detail": pd.Series(details, cells.index[refused]),
        },
        index=cells.index,
        dtype="str",
    )


def _cell_values(column: "pd.Series[str]") -> "pd.Series[float]":
    return column.map({text: _CELLS.get(text.casefold()) for text in column.dropna().unique()}).astype("float64")


def _strange_cell(row: Mapping[Hashable, object]) -> str:
    column, value = next((column, value) for column, value in row.items() if isinstance(value, str))
    return f"the column {column} holds '{value}'; expected 1, 0, -1 or nothing"


def _joined(chosen: pd.DataFrame) -> "pd.Series[str]":
    """Join in each row the names of the columns that are true."""
    bits = np.ascontiguousarray(np.packbits(chosen.to_numpy(), axis=1))
    which, _ = pd.factorize(bits.view(f"S{bits.shape[1]}").ravel().astype(object))
    _, first = np.unique(which, return_index=True)
    texts = ["|".join(compress(chosen.columns, pattern)) for pattern in chosen.iloc[first].to_numpy()]
    return pd.Series(np.array(texts, dtype=object)[which], chosen.index, dtype="str")


def list_rows(
    rows: pd.DataFrame, *, vocabulary: frozenset[str], notes: tuple[str, ...] = (), n_left_out: int = 0
) -> Listing:
    """Make a listing of the rows of label tables.

    A row without path is missing, unless it has a reason to be refused. Rows of the same image count once if they
    agree on labels, patient and split; if not, all are refused.

    Args:
        rows: from ``read_labels``, with ``path`` (null where the image is not on disk).
        vocabulary: from ``read_labels``.
        notes: for the data report.
        n_left_out: rows that the layout has left out before.
    """
    rows = rows.reset_index(drop=True)
    lost = rows["path"].isna() & rows["reason"].isna()
    rows = _refuse_doubled(rows[~lost])
    refused = rows.loc[rows["reason"].notna(), ["image", "reason", "detail"]].fillna({"image": ""})
    images = rows[rows["reason"].isna()]
    return Listing(
        image_table({**images, "image": images["path"]}),
        refusal_table(sorted(refused.itertuples(index=False, name=None))),
        n_missing=int(lost.sum()),
        n_left_out=n_left_out,
        notes=notes,
        vocabulary=vocabulary,
    )


def _refuse_doubled(rows: pd.DataFrame) -> pd.DataFrame:
    said = rows[["labels", "uncertain", "unknown", "patient_id", "given_split", "reason"]].fillna("")
    versions = said.groupby(list(said), sort=False).ngroup()
    placed = rows["path"].notna() & rows["reason"].isna()
    torn = placed & (versions.groupby(rows["path"]).transform("nunique") > 1)
    again = placed & rows["path"].duplicated() & ~torn
    cases = [
        (torn, "contradicting_labels", "several rows of the table with different labels, patients or splits"),
        (again, "exact_duplicate", "a second row of the table for the same image"),
    ]
    for case, reason, detail in cases:
        rows = rows.assign(reason=rows["reason"].mask(case, reason), detail=rows["detail"].mask(case, detail))
    return rows
