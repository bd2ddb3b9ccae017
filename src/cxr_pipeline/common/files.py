"""Atomic writes, of which a reader sees the old file or the new one, and messages about files that cannot be read."""

import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from cxr_pipeline.common.errors import UserError

_TEMPORARY = re.compile(r"\..+-[0-9a-f]{8}(\.\w+)?")


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``path``, of the same suffix, and rename it to ``path`` when the block succeeds.

    If the block fails, ``path`` is unchanged. The permissions follow the umask. `UserError` is raised if the folder is
    not writable or the disk is full.

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
        name = error.filename
        is_path = isinstance(name, str | os.PathLike)
        if is_path and Path(name) != temporary and not path.is_relative_to(name):
            raise  # it concerns another file, such as the missing source of a copy
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. Expected a writable folder with free disk space. "
            "The earlier content is unchanged. Correct this and run the same command again."
        ) from error
    finally:
        # If the folder does not exist, for example because a parent is a file, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes below a folder into which no other process writes."""
    for path in folder.rglob(".*-*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def explain_damage(place: object, remedy: str) -> Iterator[None]:
    """Raise a `UserError` that names a file and what to do if the block cannot read it, whatever the exception."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        is_missing = isinstance(error, FileNotFoundError)
        reason = "it does not exist" if is_missing else textwrap.shorten(str(error) or type(error).__name__, 100)
        if mark := getattr(error, "problem_mark", None):  # of YAML, whose message names no file and is long
            reason = f"line {mark.line + 1}: {getattr(error, 'problem', '')}"
        raise UserError(f"{place} cannot be read: {reason}. {remedy}") from error
