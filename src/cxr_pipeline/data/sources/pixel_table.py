"""Layout ``pixel_table``: a CSV table with a label and n x n pixel columns in each row."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.headers import MIN_SIDE
from cxr_pipeline.data.sources.listing import Listing, explained, list_rows, name_labels, printable
from cxr_pipeline.data.sources.readers import BLOCK_PIXELS, Block, RowReader, find_container, unpack
from cxr_pipeline.data.sources.table_files import LimitedGzip

EXPECTED = "one .csv or .csv.gz table: a column of labels, and n x n columns of pixels"

_SUFFIXES = (".csv", ".csv.gz")


def read(folder: Path, *, label: str = "label", labels: tuple[str, ...] = (), patient_id: str | None = None) -> Listing:
    """List the rows of the table without reading their pixels.

    Args:
        folder: folder of the source, or the file.
        label: name of the label column.
        labels: names of the labels in the order of their numbers; the text of the column if empty.
        patient_id: name of the patient column; null if patients are unknown.
    """
    file = find_container(folder, _SUFFIXES)
    columns = [label] if patient_id is None else [label, patient_id]
    with explained(file, EXPECTED), file.open("rb") as source:
        _pixel_columns(source, columns)
        table = _parse(source, usecols=columns, dtype="str", keep_default_na=False, na_values=[""])
    texts = table[label].str.strip().replace("", None)
    rows = pd.DataFrame(
        {
            "image": [f"row {row:08d}" for row in range(len(table))],
            "path": table.index.astype("str"),
            "labels": texts,
            "patient_id": None if patient_id is None else table[patient_id].str.strip().replace("", None),
        }
    )
    if labels:
        rows = name_labels(rows, texts, labels)
    names = labels or texts.dropna().str.split("|").explode().str.strip().unique()
    return list_rows(rows, vocabulary=names)


def reader(
    folder: Path, *, unpacked: Path, label: str = "label", patient_id: str | None = None, **_: object
) -> RowReader:
    """Return a reader of the unpacked images; rows with a pixel other than a whole number from 0 to 255 are refused."""
    others = [label] if patient_id is None else [label, patient_id]
    how = json.dumps(["pixel_table", others])
    return unpack(find_container(folder, _SUFFIXES), unpacked, partial(_blocks, others=others), how=how)


def holds_images(folder: Path) -> bool:
    """Return whether there is one table that is not empty; it is not opened."""
    return find_container(folder, _SUFFIXES).stat().st_size > 0


def _parse(source: BinaryIO, **options: Any) -> Any:
    source.seek(0)
    is_compressed = source.name.casefold().endswith(".gz")
    table = LimitedGzip(source, Path(source.name).stat().st_size) if is_compressed else source
    return pd.read_csv(table, encoding="utf-8-sig", compression=None, **options)


def _pixel_columns(source: BinaryIO, others: Sequence[str]) -> list[str]:
    head, name = _parse(source, nrows=1), printable(Path(source.name).name)
    if not isinstance(head.index, pd.RangeIndex):
        raise UserError(f"{name} has more values in a row than names in its header; expected as many.")
    pixels = [column for column in head if column not in others]
    if not {*others} <= {*head} or len(pixels) < MIN_SIDE**2 or isqrt(len(pixels)) ** 2 != len(pixels):
        columns = [str(column) for column in head]
        shown = ", ".join(columns if len(columns) < 5 else [*columns[:3], "...", columns[-1]])
        raise UserError(
            f"{name} has {len(head.columns)} columns: {printable(shown)}; expected "
            f"{' and '.join(others)}, and n x n columns of pixels, n at least {MIN_SIDE}. Set the source's label and "
            "patient_id to the names of their columns, or remove other columns from the table."
        )
    return pixels


def _blocks(source: BinaryIO, *, others: Sequence[str]) -> Iterator[Block]:
    with explained(Path(source.name), EXPECTED):
        columns = _pixel_columns(source, others)
        side = isqrt(len(columns))
        with _parse(source, chunksize=max(1, BLOCK_PIXELS // len(columns)), low_memory=False) as chunks:
            for chunk in chunks:
                # As text first, so that the cells of a column of True and False are not taken for 1 and 0.
                texts = chunk[columns].select_dtypes(exclude="number").astype("str")
                numbers = {name: pd.to_numeric(texts[name], errors="coerce") for name in texts}
                values = chunk[columns].assign(**numbers).to_numpy()
                valid = (values >= 0) & (values <= 255) & (values == np.trunc(values))
                invalid_rows = np.flatnonzero(~valid.all(axis=1))
                first = np.argmin(valid[invalid_rows], axis=1)
                faults = [f"{columns[column]} is not a whole number from 0 to 255" for column in first]
                images = np.where(valid, values, 0).astype(np.uint8).reshape(-1, side, side)
                yield images, dict(zip(invalid_rows.tolist(), faults, strict=True))
