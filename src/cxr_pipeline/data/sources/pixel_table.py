"""Layout ``pixel_table``: a CSV table with a label and n x n pixel columns in each row."""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import Listing, image_table, printable, refusal_table
from cxr_pipeline.data.sources.readers import RowReader
from cxr_pipeline.data.sources.unpacking import BLOCK_PIXELS, Block, find_container, unpack

EXPECTED = "one .csv or .csv.gz table: a column of labels, and n x n columns of pixels"

_SUFFIXES = (".csv", ".csv.gz")
_DAMAGE = (OSError, EOFError, ValueError, zlib.error)


def read(folder: Path, *, label: str, labels: Sequence[str] = (), patient_id: str | None = None) -> Listing:
    """List the rows of the table, the first being ``row 00000000``; their pixels are not looked at.

    Args:
        folder: the table's file, or a folder with no other table in it.
        label: the column of the label.
        labels: names of the labels in the order of their numbers; the column's own text if empty.
        patient_id: the column of the patient.

    Raises:
        UserError: the table is not there, cannot be read or has other columns than expected.
    """
    file = find_container(folder, _SUFFIXES)
    wanted = [label] if patient_id is None else [label, patient_id]
    with _explained(file.name), file.open("rb") as source:
        _pixel_columns(source, file.name, wanted)
        source.seek(0)
        table = _parse(source, file.name, usecols=wanted, dtype="str", keep_default_na=False, na_values=[""])
    texts = table[label].str.strip().replace("", None)
    named = _named(texts, labels) if labels else texts
    names = pd.Series([f"row {row:08d}" for row in range(len(table))], dtype="str")
    unknown = texts.notna() & named.isna()
    detail = f"; expected a whole number from 0 to {len(labels) - 1}"
    refused = zip(names[unknown], texts[unknown], strict=True)
    images = {
        "image": names,
        "path": pd.Series(range(len(table))).astype("str"),
        "labels": named,
        "patient_id": None if patient_id is None else table[patient_id].str.strip().replace("", None),
    }
    return Listing(
        image_table({column: values if values is None else values[~unknown] for column, values in images.items()}),
        refusal_table((image, "unknown_label", f"the label '{text[:20]}'{detail}") for image, text in refused),
        vocabulary=frozenset(labels or (part.strip() for text in named.dropna().unique() for part in text.split("|"))),
    )


def reader(
    folder: Path, *, unpacked: Path, label: str, labels: Sequence[str] = (), patient_id: str | None = None
) -> RowReader:
    """Read images from the array into which they are unpacked.

    A row with a pixel that is no whole number from 0 to 255 is refused when it is read.

    Raises:
        UserError: as ``read``, or the array cannot be written.
    """
    file = find_container(folder, _SUFFIXES)
    others = [label] if patient_id is None else [label, patient_id]
    how = json.dumps(["pixel_table", others])
    return RowReader(unpack(file, unpacked, partial(_blocks, name=file.name, others=others), how=how))


def holds_images(folder: Path) -> bool:
    """Tell whether there is a table, and no other; it is not opened."""
    with suppress(UserError):
        return find_container(folder, _SUFFIXES).stat().st_size > 0
    return False


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise UserError(
            f"{printable(name)} cannot be read as a table: {error}. Expected UTF-8 text with commas and a header: "
            "a column of labels, and n x n columns of pixels. Mend the table, or the source's path."
        ) from error


def _parse(source: BufferedReader, name: str, **options: Any) -> Any:
    compression: Literal["gzip"] | None = "gzip" if name.casefold().endswith(".gz") else None
    return pd.read_csv(source, encoding="utf-8-sig", compression=compression, **options)


def _pixel_columns(source: BufferedReader, name: str, others: Sequence[str]) -> list[str]:
    """List the columns of pixels: all but ``others``.

    Raises:
        UserError: one of the others is not there, or the pixels make no square.
    """
    head = _parse(source, name, nrows=1)
    if not isinstance(head.index, pd.RangeIndex):
        raise UserError(f"{printable(name)} has more values in a row than names in its header; expected as many.")
    missing = [column for column in others if column not in head]
    pixels = [column for column in head if column not in others]
    if missing or not pixels or isqrt(len(pixels)) ** 2 != len(pixels):
        shown = ", ".join([*head][:3] + ["..."] * (len(head.columns) > 4) + [*head][3:][-1:])
        raise UserError(
            f"{printable(name)} has {len(head.columns)} columns: {printable(shown)}; expected {' and '.join(others)}, "
            "and besides n x n columns of pixels. Say what these columns are called with the source's label and "
            "patient_id, or take the other columns out of the table."
        )
    return pixels


def _named(texts: "pd.Series[str]", labels: Sequence[str]) -> "pd.Series[str]":
    """Turn label numbers into names; null where there is no such number."""
    numbers = pd.to_numeric(texts, errors="coerce").astype("float64")
    return numbers.map(dict(enumerate(labels))).astype("str")


def _blocks(source: BufferedReader, *, name: str, others: Sequence[str]) -> Iterator[Block]:
    with _explained(name):
        columns = _pixel_columns(source, name, others)
        source.seek(0)
        side = isqrt(len(columns))
        with _parse(source, name, chunksize=max(1, BLOCK_PIXELS // len(columns)), low_memory=False) as chunks:
            for chunk in chunks:
                values = _numbers(chunk[columns])
                good = (values >= 0) & (values <= 255) & (values == np.trunc(values))
                bad = np.flatnonzero(~good.all(axis=1))
                first = np.argmin(good[bad], axis=1)
                faults = [f"{columns[column]} is no whole number from 0 to 255" for column in first]
                images = np.where(good, values, 0).astype(np.uint8).reshape(-1, side, side)
                yield Block(images, dict(zip(bad.tolist(), faults, strict=True)))


def _numbers(table: pd.DataFrame) -> NDArray[Any]:
    """Make numbers of a table [rows, columns], NaN of what is none."""
    for column in table.select_dtypes(exclude="number"):
        table = table.assign(**{str(column): pd.to_numeric(table[column].astype("str"), errors="coerce")})
    return table.to_numpy()
