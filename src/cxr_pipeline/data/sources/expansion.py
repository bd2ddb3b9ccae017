"""Limits of compressed content, of which a small file can expand to more than the memory holds."""

import gzip
from pathlib import Path
from typing import BinaryIO

# Real images compress to a tenth of their size at most, and tables of them to a twentieth.
_MAX_EXPANSION = 50
_MAX_EXPANDED_BYTES = 2**26
_MAX_ROWS = 10**7


def check_expansion(n_expanded: int, n_compressed: int) -> None:
    """Raise ``ValueError`` if content expands to more than 64 MiB and to more than 50 times its compressed size.

    Example:
        >>> check_expansion(10**9, 10**8)
        >>> check_expansion(10**9, 10**6)
        Traceback (most recent call last):
        ValueError: it expands to more than 50 times its compressed size
    """
    if n_expanded > max(_MAX_EXPANDED_BYTES, _MAX_EXPANSION * n_compressed):
        raise ValueError(f"it expands to more than {_MAX_EXPANSION} times its compressed size")


class LimitedGzip(gzip.GzipFile):
    """A gzip file of ``n_compressed`` bytes, whose methods raise ``ValueError`` as soon as it expands too much."""

    def __init__(self, file: BinaryIO, n_compressed: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._n_compressed = n_compressed

    def read1(self, size: int = -1) -> bytes:
        """Read at most so many bytes."""
        content = super().read1(size)
        check_expansion(self.tell(), self._n_compressed)
        return content

    def readall(self) -> bytes:
        """Read the whole content."""
        return b"".join(iter(self.read1, b""))


def check_parquet(file: Path) -> None:
    """Raise ``ValueError`` if a Parquet file expands too much, or has more than ten million rows.

    A column of equal values takes a few bytes, however many rows there are.
    """
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    if metadata.num_rows > _MAX_ROWS:
        raise ValueError(f"it has {metadata.num_rows} rows; expected at most {_MAX_ROWS}")
    expanded = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    check_expansion(expanded, file.stat().st_size)
