"""``TableDataset``: a pandas table in a Parquet or CSV file."""

import csv
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.framework.datasets.files import PathDataset


class TableDataset(PathDataset):
    """A table in one file, Parquet or CSV by its suffix.

    Args:
        filepath: A path that ends in ``.parquet`` or ``.csv``.
        columns_if_missing: Load an empty table with these columns if the file does not exist.
        text_columns: Columns of a CSV file that stay text even if they look like numbers.
        metadata: As in ``PathDataset``.

    Example of a catalog entry::

        quarantine:
          type: cxr_pipeline.framework.datasets.table.TableDataset
          filepath: data/08_reporting/quarantine.csv
          text_columns: [image]

    Example:
        >>> dataset = TableDataset(filepath=tmp_path / "quarantine.csv", text_columns=["image"])
        >>> dataset.save(pd.DataFrame({"image": ["007"], "size": [0]}))
        >>> dataset.load()
          image  size
        0   007     0
    """

    suffixes = (".parquet", ".csv")

    def __init__(
        self,
        *,
        filepath: str | Path,
        columns_if_missing: list[str] | None = None,
        text_columns: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._columns_if_missing = columns_if_missing
        self._text_columns = text_columns

    def load(self) -> pd.DataFrame:
        """Read the table."""
        if self._columns_if_missing is not None and not self._exists():
            return pd.DataFrame(columns=self._columns_if_missing, dtype="str")
        if self._filepath.suffix == ".parquet":
            return pd.read_parquet(self._filepath)
        text = dict.fromkeys(self._text_columns, "str")
        return pd.read_csv(self._filepath, keep_default_na=False, na_values=[""], dtype=text)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write a table, or the rows of one table after the other if it is too large for memory."""
        tables = iter([data] if isinstance(data, pd.DataFrame) else data)
        first = next(tables)
        write = _write_parquet if self._filepath.suffix == ".parquet" else _write_csv
        with written_atomically(self._filepath) as temporary:
            write(temporary, first, tables)


def _write_parquet(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(path, schema) as writer:
        for table in chain([first], others):
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


def _write_csv(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in chain([first], others):
            # Text is quoted because a file name may contain a line break.
            table.to_csv(file, index=False, header=table is first, quoting=csv.QUOTE_NONNUMERIC)
