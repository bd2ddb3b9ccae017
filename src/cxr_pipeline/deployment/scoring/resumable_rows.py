"""Rows of images that are scored, kept in parts, so that a kill loses few of them and nothing is scored twice."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr_pipeline.common.files import written_atomically

KEY = "key"

_IMAGES = 1024
_SECONDS = 30.0
# Rows that are put together at a time.
_STRETCH = 8192

_log = logging.getLogger(__name__)


class Parts:
    """Rows in the Parquet files of a folder, each of which appears whole or not at all.

    A row has a number: rows that were there before come first, then those that are added, in order.

    Args:
        folder: holds the files; one that cannot be read is removed.
        columns: of the rows.
        n_images: rows of a file.
        seconds: the age at which a file is written though it has fewer.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], *, n_images: int = _IMAGES, seconds: float = _SECONDS
    ) -> None:
        self._folder, self._columns = folder, list(columns)
        self._n_images, self._seconds = n_images, seconds
        self._files: list[Path] = []
        self._sizes: list[int] = []
        self._waiting: list[pd.DataFrame] = []
        self._n_waiting, self._since = 0, time.monotonic()
        self._read_keys()

    def __len__(self) -> int:
        return sum(self._sizes) + self._n_waiting

    def find(self, key: str) -> int | None:
        """The number of the last row with this key, if it was there when the folder was opened."""
        place = np.searchsorted(self._keys, np.bytes_(key), side="right") - 1
        if not key or place < 0 or self._keys[place] != np.bytes_(key):
            return None
        return int(self._rows[place])

    def add(self, rows: pd.DataFrame) -> None:
        """Keep rows, ``KEY`` and the columns; they are written with others, or when they have waited long enough.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        self._waiting.append(rows[[KEY, *self._columns]])
        self._n_waiting += len(rows)
        if self._n_waiting >= self._n_images or time.monotonic() - self._since > self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._n_waiting:
            file = self._folder / f"{self._number:08}.parquet"
            with written_atomically(file) as beside:
                pd.concat(self._waiting, ignore_index=True).to_parquet(beside, index=False)
            self._number += 1
            self._files.append(file)
            self._sizes.append(self._n_waiting)
        self._waiting, self._n_waiting, self._since = [], 0, time.monotonic()

    def tables(self, rows: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Read rows that are written, in the order of their numbers, a few thousand at a time."""
        ends = np.cumsum(self._sizes)
        for start in range(0, len(rows), _STRETCH):
            wanted = rows[start : start + _STRETCH]
            of_file = np.searchsorted(ends, wanted, side="right")
            taken, order = [], []
            for number in np.unique(of_file):
                positions = np.flatnonzero(of_file == number)
                within = wanted[positions] - (ends[number] - self._sizes[number])
                taken.append(pd.read_parquet(self._files[number], columns=list(columns)).iloc[within])
                order.append(positions)
            table = pd.concat(taken, ignore_index=True)
            yield table.iloc[np.argsort(np.concatenate(order))].reset_index(drop=True)

    def remove_unused(self, rows: NDArray[np.int64]) -> None:
        """Remove the files none of whose rows is among these."""
        used = set(np.unique(np.searchsorted(np.cumsum(self._sizes), rows, side="right")).tolist())
        for number, file in enumerate(self._files):
            if number not in used:
                file.unlink(missing_ok=True)

    def _read_keys(self) -> None:
        for leftover in self._folder.glob(".*.parquet"):
            leftover.unlink(missing_ok=True)
        found = sorted(file for file in self._folder.glob("*.parquet") if file.stem.isdecimal())
        self._number = int(found[-1].stem) + 1 if found else 0
        keys = [np.empty(0, "S32")]
        for file in found:
            try:
                keys.append(self._keys_of(file))
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                _log.warning("%s cannot be read, and its images are scored again: %s", file, error)
                file.unlink(missing_ok=True)
                continue
            self._files.append(file)
            self._sizes.append(len(keys[-1]))
        unsorted = np.concatenate(keys)
        known = np.flatnonzero(unsorted != b"")
        self._rows = known[np.argsort(unsorted[known], kind="stable")]
        self._keys = unsorted[self._rows]

    def _keys_of(self, file: Path) -> NDArray[np.bytes_]:
        # The whole file, since what is damaged shows only when it is read.
        table = pq.read_table(file, columns=[KEY, *self._columns])
        return np.asarray(table.column(KEY).to_pylist(), dtype="S32")
