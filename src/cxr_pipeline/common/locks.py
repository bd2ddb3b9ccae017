"""A lock that one process at a time can hold, with a record of its holder."""

import atexit
import json
import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, the pipelines that it runs, and its MLflow run if anything is tracked."""

    host: str
    pid: int
    # Seconds since 1970; distinguishes the process from a later one with the same id.
    started: float
    # When the lock was acquired, ISO 8601, UTC.
    since: str
    command: str
    run_id: str | None = None

    @classmethod
    def current(cls, command: str) -> "Holder":
        """Describe this process."""
        process = psutil.Process()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(platform.node(), process.pid, process.create_time(), since, command)

    def is_gone(self) -> bool:
        """Return whether the process has certainly ended. False for a process on another machine."""
        if self.host != platform.node():
            return False
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) > 1)
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        run = f", MLflow run {self.run_id}" if self.run_id else ""
        return f"{self.command}, process {self.pid} on {self.host}, since {self.since}{run}"


class Locked(Exception):
    """Another process, unknown if ``holder`` is None, holds the lock; nothing was changed."""

    # EX_TEMPFAIL of sysexits.h: try again later.
    exit_code = os.EX_TEMPFAIL

    def __init__(self, name: str, holder: Holder | None) -> None:
        super().__init__(f"{name} is already running ({holder or 'holder unknown'}). Exiting without changes.")
        self.holder = holder


class RunLock:
    """A lock on a file, held by at most one process.

    The operating system releases it when the holder ends, even if it is killed. It works across machines that share the
    folder if their file system supports locks. The holder is recorded next to the lock, as ``.json``; if
    ``keeps_record`` returns True when the lock is released, the record is kept, as after a kill.
    """

    def __init__(self, path: Path, name: str, *, keeps_record: Callable[[], bool] = lambda: False) -> None:
        self._lock, self._record, self._name = FileLock(path), path.with_suffix(".json"), name
        self._keeps_record = keeps_record
        self._carries_earlier_run = False

    def acquire(self, command: str) -> Holder | None:
        """Acquire the lock without waiting, and record the pipelines that this process runs.

        Returns:
            The earlier holder if it ended without releasing the lock, for example because it was killed; else None.

        Raises:
            Locked: another process holds the lock.
            UserError: the folder of the lock is not writable.
        """
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = self._read()
            # The record of a killed process, which the current holder is about to replace, would be misleading.
            raise Locked(self._name, None if holder is None or holder.is_gone() else holder) from None
        except OSError as error:
            raise UserError(
                f"{self._lock.lock_file} could not be locked: {error.strerror or error}. Expected a folder that this "
                "user may write to. Change its permissions, or set the globals value `data` to another folder."
            ) from error
        earlier, holder = self._read(), Holder.current(command)
        if earlier is not None:
            logger.warning("An earlier run did not end properly (%s). Taking over its lock.", earlier)
            # Its MLflow run stays on record until that of this process takes its place: it is ended even if this
            # process is killed before.
            holder = replace(holder, run_id=earlier.run_id)
        try:
            self._write(holder)
        except BaseException:
            self._lock.release()
            raise
        self._carries_earlier_run = holder.run_id is not None
        # Also releases the lock if the run ends without reaching `release`.
        atexit.register(self.release)
        return earlier

    def note_run(self, run_id: str) -> None:
        """Record the MLflow run of the holder, so that a successor can end it; that of the earlier holder has ended."""
        if holder := self._read():
            self._write(replace(holder, run_id=run_id))
        self._carries_earlier_run = False

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._lock.is_locked:
            if not (self._carries_earlier_run or self._keeps_record()):
                with suppress(OSError):
                    self._record.unlink(missing_ok=True)
            self._lock.release()
        atexit.unregister(self.release)

    def _write(self, holder: Holder) -> None:
        with written_atomically(self._record) as temporary:
            temporary.write_text(json.dumps(asdict(holder), indent=2) + "\n")

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None
