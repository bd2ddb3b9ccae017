"""``TableDataset``: a pandas table in a Parquet or CSV file."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.framework.datasets.files import PathDataset

# Cells that spreadsheet programs run (https://owasp.org/www-community/attacks/CSV_Injection), also with quotes before
# them, so that reading a file gives back what was written.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


class TableDataset(PathDataset):
    """A table in one file, Parquet or CSV by its suffix.

    In a CSV file, text that a spreadsheet program would run as a formula has a quote before it; ``load`` removes it.

    Args:
        columns_if_missing: Load an empty table with these columns if the file does not exist.
        text_columns: Columns of a CSV file that stay text even if they look like numbers.

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
        if columns_if_missing is not None:  # A run reads it before it writes it.
            self.remedy = (
                "Restore a copy of it. If there is none, delete it: the next run starts without its content, and for "
                "splits.parquet assigns all images to splits again."
            )

    def _read(self) -> pd.DataFrame:
        if self._columns_if_missing is not None and not self._exists():
            return pd.DataFrame(columns=self._columns_if_missing, dtype="str")
        if self._filepath.suffix == ".parquet":
            return pd.read_parquet(self._filepath, page_checksum_verification=True)
        text = dict.fromkeys(self._text_columns, "str")
        table = pd.read_csv(self._filepath, keep_default_na=False, na_values=[""], dtype=text)
        return _map_text(table, lambda cell: cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write a table, or the rows of one table after the other if it is too large for memory."""
        tables = iter([data] if isinstance(data, pd.DataFrame) else data)
        first = next(tables)
        write = _write_parquet if self._filepath.suffix == ".parquet" else _write_csv
        with written_atomically(self._filepath) as temporary:
            write(temporary, first, tables)


def _write_parquet(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for table in chain([first], others):
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


def _write_csv(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in chain([first], others):
            file.write(csv_text(table, header=table is first))


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table as CSV with quoted text, and a quote before text that a spreadsheet program would run."""
    escaped = _map_text(table, lambda cell: f"'{cell}" if _FORMULA.match(cell) else cell)
    # Text is quoted because a file name may contain a line break.
    return escaped.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC)


def _map_text(table: pd.DataFrame, function: Callable[[str], str]) -> pd.DataFrame:
    """Apply a function to each cell that is text."""
    texts = table.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz"])
    return table.assign(
        **{str(name): texts[name].map(lambda cell: function(cell) if isinstance(cell, str) else cell) for name in texts}
    )
