"""Read label tables, CSV or Parquet, with the labels in one column or in a column each, and find their images."""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.labels import fold, is_normal
from cxr_pipeline.data.sources.listing import SPLIT_NAMES, printable, refuse
from cxr_pipeline.data.sources.table_files import read_table

NO_FINDING = "No Finding"

Combination = Literal["any", "majority", "unanimous"]

_POSITIVE, _NEGATIVE, _UNCERTAIN = 1.0, 0.0, -1.0
CELLS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "positive"), _POSITIVE),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "negative"), _NEGATIVE),
    **dict.fromkeys(("-1", "-1.0"), _UNCERTAIN),
}
_SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}
# Units of the DICOM value representation AS (age string), PS3.5 section 6.2.
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_MAX_AGE = 120
_LIST = re.compile(r"\[(?P<items>.*)\]", re.DOTALL)
_QUOTED = re.compile(r"""(['"])(?P<label>.*?)\1""")
_LEADS_OUT = re.compile(r"/|[A-Za-z]:/|\.\.(/|$)")
# An uncertain label is half a vote, and a reader who does not know has none.
_VOTES = {"labels": 1.0, "uncertain": 0.5, "unknown": np.nan}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a label table, None if it does not have them, and how to read them.

    ``docs/guides/layouts.md`` describes them. There are either ``labels``, in one column, or ``one_hot``, a column for
    each. If ``combine`` is None, several rows of an image have to agree; see ``combine_readings``.

    Args:
        image: path, file name or, of DICOM images, SOP instance UID.
        labels: labels in one column.
        separator: text between the labels of one cell.
        one_hot: a column for each label, instead of ``labels``.
        blank: meaning of an empty cell of ``one_hot``.
        patient_id: patient.
        view: projection, such as PA or AP.
        age (years): age, as a number or with a unit.
        sex: sex.
        split: split that the table gives.
        reader: reader, if several labelled an image.
        combine: labels of an image with several rows; null if they have to agree, see ``combine_readings``.
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
    """
    file = folder / table
    cells = read_table(file, columns.names)
    rows, vocabulary = read_labels(cells, columns)
    for place in (folder.absolute(), folder.resolve()):
        rows["image"] = rows["image"].str.removeprefix(f"{place.as_posix()}/")
    if columns.split is not None:
        rows["given_split"] = _splits(cells[columns.split], file)
    if columns.combine is not None:
        rows = combine_readings(rows, cells.get(columns.reader), columns.combine)
    return rows, vocabulary


def read_labels(table: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read labels and metadata of images from the rows of ``read_table``. Missing columns are filled with nulls.

    Returns:
        Rows with the index of ``table``: ``image`` (with single forward slashes, without ``.`` and ``..``, and in
        composed Unicode), ``labels``, ``uncertain``, ``unknown``, ``patient_id``, ``view``, ``age`` and ``sex`` as in a
        ``Listing``, and ``reason`` and ``detail``, null unless the row is refused. And the vocabulary: the columns of
        ``one_hot``, or all labels in the table.
    """

    def column(name: str | None) -> "pd.Series[str]":
        return table[name] if name in table else pd.Series(None, table.index, dtype="str")

    if columns.one_hot:
        rows, vocabulary = _one_hot(table[list(columns.one_hot)], columns.blank), frozenset(columns.one_hot)
    else:
        rows, vocabulary = _separated(column(columns.labels), columns.separator)
    images = table[columns.image].str.replace("\\", "/").str.normalize("NFC")
    rows = rows.assign(
        image=images.map(posixpath.normpath, na_action="ignore").astype("str"),
        patient_id=column(columns.patient_id),
        view=column(columns.view).str.upper(),
        age=years(column(columns.age)),
        sex=column(columns.sex).str.casefold().map(_SEXES),
    )
    return rows, vocabulary


def combine_readings(rows: pd.DataFrame, readers: "pd.Series[str] | None", how: Combination) -> pd.DataFrame:
    """Give all rows of an image the same labels. They are compared as by ``fold``, and keep their first spelling.

    All labels for a normal image are one label. The rows of one reader add up, as in a table with a row for each
    finding. A row without reader is a reader of its own. An image has no known labels if each of its readers found
    something, but no label has enough votes.

    - ``any``: an image has the labels that at least one reader found, but a label for a normal image only if it has no
      other.
    - ``majority``: those that more than half of the readers found; labels of exactly half are uncertain. Those of fewer
      are ``outvoted``.
    - ``unanimous``: those that all readers found; labels of only some of them are uncertain.
    """
    each_row = rows.index.to_series().astype("str").radd("row ")
    readers = each_row if readers is None else readers.fillna(each_row)
    parts = [
        rows[["image"]].assign(reader=readers, label=rows[column].str.split("|"), vote=vote).explode("label")
        for column, vote in _VOTES.items()
    ]
    said = pd.concat(parts).replace({"label": ""}, None).dropna(subset=["image", "label"])
    keys = {label: "normal" if is_normal(label) else fold(label) for label in said["label"].unique()}
    key_of = said["label"].map(keys)
    first = said.groupby(["image", key_of])["label"].transform("first")
    others = said[key_of.eq("normal") & said["label"].ne(first)].drop_duplicates(["image", "label"])
    said["label"] = first
    of_readers = said.groupby(["image", "reader", "label"])["vote"].max()
    votes = of_readers.groupby(["image", "label"]).agg(["sum", "max", "size", "count"]).reset_index()
    has_read = rows[["labels", "unknown"]].notna().any(axis=1)
    of_image = readers.where(has_read).groupby(rows["image"]).nunique()
    # A table without any label has no numbers to map to.
    n_readers = votes["image"].map(of_image).astype("float64")
    n_who_know = n_readers - votes["size"] + votes["count"]
    share = votes["max"] if how == "any" else votes["sum"] / n_who_know
    found = share.eq(1) if how == "unanimous" else share.gt(0.5)
    if how == "any":
        normal = votes["label"].map(keys).eq("normal")
        found &= ~(normal & (found & ~normal).groupby(votes["image"]).transform("any"))
    uncertain = ~found & (share.gt(0) if how == "unanimous" else share.eq(0.5))
    outvoted = ~uncertain & share.between(0, 0.5, inclusive="neither")
    cases = {"labels": found, "uncertain": uncertain, "unknown": n_who_know.eq(0), "outvoted": outvoted}
    joined = {
        name: rows["image"].map(votes[case].groupby("image")["label"].agg("|".join)).astype("str")
        for name, case in cases.items()
    }
    is_labelled = rows["labels"].notna().groupby(rows["image"]).transform("any")
    joined["labels"] = joined["labels"].mask(is_labelled & joined["labels"].isna(), "")
    n_finders = said[said["vote"] > 0].groupby("image")["reader"].nunique()
    all_found_something = rows["image"].map(n_finders).eq(rows["image"].map(of_image))
    disputed = joined["labels"].eq("") & joined["uncertain"].isna() & all_found_something
    joined["labels"] = joined["labels"].mask(disputed)
    # Only the first spelling is used, but all have to be listed: the others are checked as outvoted labels are.
    spellings = rows["image"].map(others.groupby("image")["label"].agg("|".join)).astype("str")
    joined["outvoted"] = joined["outvoted"].str.cat(spellings, sep="|", na_rep="").str.strip("|").replace("", None)
    return rows.assign(**joined)


def years(ages: "pd.Series[str]") -> "pd.Series[float]":
    """Convert ages such as ``58``, ``058Y`` or ``006M`` to years; null if invalid or above 120.

    Example:
        >>> years(pd.Series(["058Y", "006M", "414"])).tolist()
        [58.0, 0.5, nan]
    """
    parts = ages.str.upper().str.extract(r"^(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[YMWD]?)$")
    years = parts["number"].astype("float64") * parts["unit"].replace("", "Y").map(_YEARS).astype("float64")
    return years.where(years <= _MAX_AGE)


def locate(rows: pd.DataFrame, paths: "pd.Series[str]", *spellings: "pd.Series[str]") -> pd.DataFrame:
    """Find the images named by the rows of ``read_labels``.

    The images on disk are named by their ``paths`` and, in order of precedence, by ``spellings``, null where an image
    has none. The result has ``path``, null if the image is not on disk, and the path as ``image`` if it is. Rows of
    missing images are no longer refused, except for names that lead out of the folder or that several images have.
    """
    index: dict[str, str] = {}
    for names in (paths, *spellings):
        # Some file systems write "ü" as two characters.
        known = names.dropna().str.normalize("NFC")
        several = known.duplicated(keep=False)
        index = dict(zip(known, paths[known.index].mask(several), strict=True)) | index
    path_of = pd.Series(index, dtype="str")
    names = rows["image"]
    found = names.map(path_of).astype("str")
    rows = rows.assign(
        image=found.fillna(names),
        path=found,
        reason=rows["reason"].where(found.notna()),
        detail=rows["detail"].where(found.notna()),
    )
    outside = names.str.match(_LEADS_OUT, na=False)
    rows = refuse(rows, outside, "outside_source", "its path in the table is not below the source's folder")
    ambiguous = names.isin(path_of.index[path_of.isna()])
    return refuse(rows, ambiguous, "unreadable", "several files have this name; the table must give the path")


def _splits(words: "pd.Series[str]", file: Path) -> "pd.Series[str]":
    splits = words.str.casefold().map(SPLIT_NAMES)
    unknown = words[words.notna() & splits.isna()]
    if len(unknown):
        raise UserError(
            f"{printable(str(file))}: the column {words.name} has '{unknown.iloc[0][:40]}'; expected one of "
            f"{', '.join(SPLIT_NAMES)}, or an empty cell. Fix the table, or set the source's columns.split to null."
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
    values = cells.apply(lambda column: column.str.lower().map(CELLS).astype("float64"))
    invalid = values.isna() & cells.notna()
    if blank == "negative":
        values = values.fillna(_NEGATIVE)
    rows = pd.DataFrame(
        {
            "labels": _joined(values == _POSITIVE).mask(values.isna().all(axis="columns")),
            "uncertain": _joined(values == _UNCERTAIN).replace("", None),
            "unknown": _joined(values.isna()).replace("", None),
            "reason": None,
            "detail": None,
        },
        dtype="str",
    )
    for name in cells.columns[invalid.any()][::-1]:
        detail = f"the column {name} has '" + cells[name].str[:40] + "'; expected 1, 0, -1 or an empty cell"
        rows = refuse(rows, invalid[name], "unknown_label", detail)
    return rows


def _joined(chosen: pd.DataFrame) -> "pd.Series[str]":
    """Join the names of the columns that are true in each row."""
    # Releases have 200,000 rows but few distinct combinations: only those are joined.
    number = chosen.groupby(list(chosen), sort=False).ngroup()
    patterns = chosen[~number.duplicated()].to_numpy()
    texts = {position: "|".join(chosen.columns[pattern]) for position, pattern in enumerate(patterns)}
    return number.map(texts).astype("str")
