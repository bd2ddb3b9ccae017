"""An append-only store of arrays on disk, addressed by key.

A store is a folder of shards, which never change. A shard is one ``.npy`` file: the values, and after them a second
array with the key and the CRC-32 of each row. It is renamed when it is complete. Its name is a digest of its content,
so processes that fill a store together cannot overwrite each other's work. See
``docs/decisions/0018-one-array-store.md``.
"""

import hashlib
import io
import logging
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically

_SHARD_BYTES = 2**24
_SHARD_ROWS = 4096
# Each mapped shard keeps a file open; many systems allow a process 1024 of them.
_MAPPED_SHARDS = 256
_LEFTOVER_SECONDS = 3600
# Not every OSError: too many open files or a stale network handle say nothing about the shard.
_DAMAGE = (FileNotFoundError, ValueError)
_DAMAGED = "%s is damaged and will be written again: %s"

_log = logging.getLogger(__name__)


class ArrayStore:
    """Arrays of the same shape and type, which may be a structured one, each stored once under its key.

    Example:
        >>> store = ArrayStore(tmp_path / "squares", np.float32, (2,))
        >>> store.write(["3", "4"], np.array([[3, 9], [4, 16]]))
        >>> store.missing(["4", "5"])
        ['5']
        >>> ArrayStore(tmp_path / "squares", np.float32, (2,)).read(["4", "3"]).tolist()
        [[4.0, 16.0], [3.0, 9.0]]
    """

    def __init__(self, folder: Path, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self.folder, self.dtype, self.shape = folder, np.dtype(dtype), tuple(shape)
        self._shards: set[Path] = set()
        self._verified: set[Path] = set()
        self._places: dict[str, tuple[Path, int]] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @property
    def rows_per_shard(self) -> int:
        """Return the number of arrays in a shard of reasonable size."""
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape))
        return max(1, min(_SHARD_ROWS, _SHARD_BYTES // row_bytes))

    def refresh(self) -> None:
        """Add the shards that other processes have written, and remove temporary files of killed processes."""
        for path in sorted(self.folder.glob("*.npy")):
            if path.name.startswith("."):
                # A recent one may be a file that another process is writing, renaming or removing.
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                        path.unlink()
            elif path not in self._shards:
                self._add(path)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that are not stored, without duplicates, in the given order.

        The checksums of the shards that hold the others are verified, once per store; damaged shards are removed.
        """
        wanted = dict.fromkeys(keys)
        for path in sorted({self.shard_of(key) for key in wanted if key in self._places} - self._verified):
            try:
                for row in range(len(_open_shard(path)[1])):
                    _read_row(path, row)
                self._verified.add(path)
            except _DAMAGE as error:
                self._remove(path)
                _log.warning(_DAMAGED, path, error)
        return [key for key in wanted if key not in self._places]

    def write(self, keys: Sequence[str], values: NDArray[Any]) -> None:
        """Write arrays, [n, *shape], as one shard under different keys; without keys, nothing is written."""
        if len(keys):
            self._add(write_shard(self.folder, keys, np.asarray(values, self.dtype)))

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        """Read arrays in the given order, [n, *shape]; only the requested rows of the shards are read.

        `KeyError` is raised if a key is not stored, and `UserError` if a shard was damaged since the store was opened.
        """
        values = np.empty((len(keys), *self.shape), self.dtype)
        for position, key in enumerate(keys):
            path, row = self._places[key]
            try:
                values[position] = _read_row(path, row)
            except _DAMAGE as error:
                self._remove(path)
                raise UserError(
                    f"{path} is damaged and has been removed. Run the same command again to write it again."
                ) from error
        return values

    def shard_of(self, key: str) -> Path:
        """Return the shard that holds a key."""
        return self._places[key][0]

    def remove_shards_except(self, shards: Iterable[Path]) -> None:
        """Remove the shards that are no longer needed."""
        for path in self._shards.difference(shards):
            path.unlink(missing_ok=True)

    def _add(self, path: Path) -> None:
        try:
            values, table = _load_shard(path)
            keys = [key.decode() for key in table["key"].tolist()]
            if (values.dtype, values.shape) != (self.dtype, (len(keys), *self.shape)):
                raise ValueError(f"expected {self.dtype} {self.shape}. Received: {values.dtype} {values.shape}")
        except (*_DAMAGE, TypeError, IndexError) as error:
            _log.warning(_DAMAGED, path, error)
            _open_shard.cache_clear()
            return
        self._shards.add(path)
        self._places.update((key, (path, row)) for row, key in enumerate(keys))

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        _open_shard.cache_clear()
        self._shards.discard(path)
        self._places = {key: place for key, place in self._places.items() if place[0] != path}


def write_shard(folder: Path, keys: Sequence[str], values: NDArray[Any]) -> Path:
    """Write arrays of the store's type, [n, *shape], as a shard, without reading the index; return the shard's file.

    `UserError` is raised if the folder cannot be written or the disk is full.
    """
    values = np.ascontiguousarray(values)
    encoded = np.array([key.encode() for key in keys])
    table = np.empty(len(keys), [("key", encoded.dtype), ("crc32", "<u4")])
    table["key"] = encoded
    table["crc32"] = [zlib.crc32(values[row : row + 1].data) for row in range(len(keys))]
    # Through memory, because np.save to a file does not notice that the disk is full.
    content = io.BytesIO()
    np.save(content, values)
    np.save(content, table)
    path = folder / _name_of(table)
    with written_atomically(path) as beside:
        beside.write_bytes(content.getbuffer())
    return path


def _load_shard(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map the values of a shard into memory, and read the table of its keys and checksums."""
    try:
        values = np.load(path, mmap_mode="r")
        with path.open("rb") as file:
            file.seek(values.offset + values.nbytes)
            table = np.load(file)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # numpy evaluates the header, and does not document what it raises for a damaged one
        raise ValueError(f"damaged header: {error}") from error
    if path.name != _name_of(table):
        raise ValueError("damaged keys or checksums")
    return values, table


def _name_of(table: NDArray[Any]) -> str:
    return f"{hashlib.sha256(table.tobytes()).hexdigest()[:32]}.npy"


_open_shard = lru_cache(_MAPPED_SHARDS)(_load_shard)


def _read_row(path: Path, row: int) -> NDArray[Any]:
    """Read a row of a shard, [*shape]; raise ``ValueError`` if its checksum is wrong."""
    values, table = _open_shard(path)
    if zlib.crc32(values[row : row + 1].data) != table["crc32"][row]:
        raise ValueError("wrong checksum")
    stored: NDArray[Any] = values[row]
    return stored
