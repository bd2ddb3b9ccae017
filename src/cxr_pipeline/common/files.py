"""Atomic writes, of which a reader sees the old file or the new one, and messages about files that cannot be read."""

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from cxr_pipeline.common.errors import UserError


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``path`` and rename it to ``path`` when the block succeeds.

    The temporary file has the suffix of ``path``, because some writers choose a format by it. If the block fails, the
    temporary file is removed and ``path`` is unchanged. The file permissions follow the umask.

    Raises:
        UserError: the folder is not writable or the disk is full.

    Example:
        >>> with written_atomically(tmp_path / "note.txt") as temporary:
        ...     _ = temporary.write_text("done")
        >>> (tmp_path / "note.txt").read_text()
        'done'
    """
    temporary = path.parent / f".{path.stem}-{uuid4().hex[:8]}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: it creates files with mode 0600, which the rename would keep.
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        if _concerns_another_file(error, path, temporary):
            raise
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. Expected a writable folder with free disk space. "
            "The earlier content is unchanged. Correct this and run the same command again."
        ) from error
    finally:
        # If the folder does not exist, for example because a parent is a file, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def explain_damage(place: object, remedy: str) -> Iterator[None]:
    """Raise a `UserError` that names a file and what to do if the block cannot read it, whatever the reason.

    The libraries that read files raise exceptions of many types for content that is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        is_missing = isinstance(error, FileNotFoundError)
        reason = "it does not exist" if is_missing else textwrap.shorten(str(error) or type(error).__name__, 100)
        raise UserError(f"{place} cannot be read: {reason}. {remedy}") from error


def _concerns_another_file(error: OSError, path: Path, temporary: Path) -> bool:
    """Return whether an error concerns a file that is not written here, such as the missing source of a copy."""
    named = error.filename
    return isinstance(named, str | os.PathLike) and Path(named) != temporary and not path.is_relative_to(named)
