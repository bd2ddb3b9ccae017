"""Writing files so that a reader sees the old one or the new one, never a half."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` to write, and put it in place when the block ends well.

    The temporary file keeps the suffix of ``path``, which some writers look at. When the block fails,
    it is removed and ``path`` stays as it was.

    Raises:
        UserError: the folder cannot be written, or the disk is full.

    Example:
        >>> with written_atomically(path) as beside:  # doctest: +SKIP
        ...     beside.write_text("done")
    """
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        beside = Path(name)
        yield beside
        beside.chmod(0o644)
        _flush_to_disk(beside)
        beside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. Expected a folder that this user may write "
            "and room on its disk; nothing that was there before is lost. Mend that and run the same command again."
        ) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``, atomically.

    Raises:
        UserError: as ``written_atomically``.
    """
    # Into memory first, because np.save to a file does not notice when the disk is full.
    content = io.BytesIO()
    np.save(content, array)
    with written_atomically(path) as beside:
        beside.write_bytes(content.getbuffer())


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())
