"""``TableDataset`` keeps a pandas table in a Parquet or CSV file."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.files import written_atomically


class TableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame]):
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

    def save(self, data: pd.DataFrame) -> None:
        """Write the table without its index; text in CSV is quoted, since a name may hold a line break."""
        with written_atomically(self._filepath) as beside:
            if self._filepath.suffix == ".parquet":
                data.to_parquet(beside, index=False)
            else:
                data.to_csv(beside, index=False, quoting=csv.QUOTE_NONNUMERIC)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "columns_if_missing": self._columns_if_missing}
