"""Read columns of a table as text, from Parquet or from CSV as spreadsheets and databases write it."""

import codecs
import difflib
import gzip
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow.parquet as pq

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.labels import fold
from cxr_pipeline.data.sources.listing import explained, printable
from cxr_pipeline.data.splits import join_names

_SEPARATORS = ",;\t|"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# Real images compress to a tenth of their size at most, and tables of them to a twentieth.
_MAX_EXPANSION = 50
_MAX_EXPANDED_BYTES = 2**26
_MAX_ROWS = 10**7


def read_table(file: Path, names: Sequence[str] | None, *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of a table, all of them for None, as stripped text, null where a cell is empty.

    A column is found by its name, or without regard to case, spaces, underscores and hyphens if that is unique. The
    columns of ``optional`` are read if the table has them. Empty rows are skipped.

    A file that does not end in ``.parquet`` or ``.pq`` is read as CSV, which may be compressed by gzip. Cells are
    separated by commas, semicolons, tabs or bars; the text is UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    The columns of the result are named as in ``names`` and ``optional``. `UserError` is raised if the table is missing,
    cannot be read, lacks a column or has it twice.
    """
    with explained(file, "a table: Parquet, or CSV with a header"):
        if file.suffix.lower() in (".parquet", ".pq"):
            _check_parquet(file)
            content = pq.read_table(file)
            content.validate(full=True)  # damaged text would fail later
            table = content.to_pandas(types_mapper=pd.ArrowDtype)
            table = (table if table.index.name is None else table.reset_index()).astype("str")
        else:
            table = _read_csv(file, [*(names or ()), *optional])
    header = [str(column) for column in table.columns]
    names = [name for name in header if name.strip()] if names is None else names
    positions = {name: _position(header, name, file) for name in dict.fromkeys([*names, *optional])}
    missing = [name for name in names if positions[name] is None]
    if missing:
        close = [match for name in missing for match in difflib.get_close_matches(name, header, n=1)]
        named, near, found = (join_names([name[:40] for name in names], 8) for names in (missing, close, header))
        hint = f"; did you mean {near}?" if close else "."
        raise UserError(f"{printable(str(file))} has no column {named}{hint} Found {found or 'none'}.")
    cells = table.dropna(how="all").reset_index(drop=True)
    columns = {name: cells.iloc[:, position] for name, position in positions.items() if position is not None}
    return pd.DataFrame({name: texts.str.strip().replace("", None) for name, texts in columns.items()}, cells.index)


def check_expansion(n_expanded: int, n_compressed: int, *, factor: int = _MAX_EXPANSION) -> None:
    """Raise ``ValueError`` if content expands to more than 64 MiB and to more than ``factor`` times its size."""
    if n_expanded > max(_MAX_EXPANDED_BYTES, factor * n_compressed):
        raise ValueError(f"it expands to more than {factor} times its compressed size")


class LimitedGzip(gzip.GzipFile):
    """A gzip file of ``n_compressed`` bytes, of which ``read1`` raises ``ValueError`` if it expands too much."""

    def __init__(self, file: BinaryIO, n_compressed: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._n_compressed = n_compressed

    def read1(self, size: int = -1) -> bytes:
        """Read at most so many bytes."""
        content = super().read1(size)
        check_expansion(self.tell(), self._n_compressed)
        return content


def _check_parquet(file: Path) -> None:
    """Raise ``ValueError`` if a Parquet file has too many rows, which may take a few bytes, or expands too much."""
    metadata = pq.read_metadata(file)
    if metadata.num_rows > _MAX_ROWS:
        raise ValueError(f"it has {metadata.num_rows} rows; expected at most {_MAX_ROWS}")
    expanded = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    check_expansion(expanded, file.stat().st_size)


def _read_csv(file: Path, names: Sequence[str]) -> pd.DataFrame:
    content = file.read_bytes()
    if content.startswith(_GZIP):
        content = b"".join(iter(LimitedGzip(io.BytesIO(content), len(content)).read1, b""))
    text = _decode(content)
    # A first line such as "sep=;" tells Excel the separator.
    if text.startswith("sep="):
        text = text.partition("\n")[2]
    # Without pandas' own list of null values: a label may be "None" and a patient "NA".
    read: Any = partial(pd.read_csv, dtype="str", keep_default_na=False)
    headers = {sep: read(io.StringIO(text), sep=sep, header=None, nrows=1).iloc[0].tolist() for sep in _SEPARATORS}
    wanted = {fold(name) for name in names}
    separator = max(headers, key=lambda each: (len(wanted & set(map(fold, headers[each]))), len(headers[each])))
    header = headers[separator]
    read = partial(read, sep=separator, na_values=[""])
    table: pd.DataFrame = read(io.StringIO(text))
    # Rows with one cell more than the header have a separator at their end, or the row names of R before them.
    if not isinstance(table.index, pd.RangeIndex):
        trailing = bool(table.iloc[:, -1].isna().all())
        table = read(io.StringIO(text), index_col=False) if trailing else table.reset_index(drop=True)
    # pandas renames the second of two columns with the same name.
    return table.set_axis(header, axis="columns") if len(header) == table.shape[1] else table


def _decode(content: bytes) -> str:
    if content.startswith(_WORKBOOKS):
        raise ValueError("it is a workbook of a spreadsheet program or an archive; save it as CSV")
    if content.startswith(_UTF_16):
        return content.decode("utf-16")
    if b"\0" in content:
        raise ValueError("it contains zero bytes; save it in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _position(header: Sequence[str], name: str, file: Path) -> int | None:
    for spelling in (str, str.strip, fold):
        found = [position for position, column in enumerate(header) if spelling(column) == spelling(name)]
        if len(found) > 1:
            several = " and ".join(f"{header[position]!r} (column {position + 1})" for position in found)
            raise UserError(
                f"{printable(str(file))} has several columns {name}: {several}. Expected one. Rename the others or "
                "remove them."
            )
        if found:
            return found[0]
    return None
