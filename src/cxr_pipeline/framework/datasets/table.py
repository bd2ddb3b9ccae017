"""``TableDataset`` keeps a pandas table in a Parquet or CSV file."""

import csv
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.common.files import written_atomically


class TableDataset(AbstractDataset[pd.DataFrame | Iterable[pd.DataFrame], pd.DataFrame]):
    """A table in one file; the suffix of ``filepath`` says which form.

    Args:
        filepath: a path that ends in ``.parquet`` or ``.csv``.
        columns_if_missing: where the file does not exist yet, load an empty table with these columns.
        text_columns: columns of a CSV file that stay text when they look like numbers.
        metadata: kept for plugins, such as the layer for kedro-viz.

    Example:
        >>> dataset = TableDataset(filepath=tmp_path / "table.parquet")  # doctest: +SKIP
        >>> dataset.save(pd.DataFrame({"a": [1]}))  # doctest: +SKIP
        >>> dataset.load().a.tolist()  # doctest: +SKIP
        [1]
    """

    def __init__(
        self,
        *,
        filepath: str,
        columns_if_missing: list[str] | None = None,
        text_columns: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = Path(filepath)
        self._columns_if_missing = columns_if_missing
        self._text_columns = text_columns or []
        self.metadata = metadata
        if self._filepath.suffix not in (".parquet", ".csv"):
            raise DatasetError(f"a table's file ends in .parquet or .csv. Received: filepath={filepath}")

    def load(self) -> pd.DataFrame:
        """Read the table."""
        if self._columns_if_missing is not None and not self._filepath.exists():
            return pd.DataFrame(columns=self._columns_if_missing, dtype="str")
        if self._filepath.suffix == ".parquet":
            return pd.read_parquet(self._filepath)
        text = dict.fromkeys(self._text_columns, "str")
        return pd.read_csv(self._filepath, keep_default_na=False, na_values=[""], dtype=text)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write the table without its index; text in CSV is quoted, since a name may hold a line break.

        A table that is too large for memory is given as tables of its rows, which are written one after the other.
        """
        tables = iter([data] if isinstance(data, pd.DataFrame) else data)
        first = next(tables)
        with written_atomically(self._filepath) as beside:
            if self._filepath.suffix == ".parquet":
                _write_parquet(beside, first, tables)
            else:
                _write_csv(beside, first, tables)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "columns_if_missing": self._columns_if_missing}


def _write_parquet(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(path, schema) as writer:
        for table in chain([first], others):
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


def _write_csv(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in chain([first], others):
            table.to_csv(file, index=False, header=table is first, quoting=csv.QUOTE_NONNUMERIC)
