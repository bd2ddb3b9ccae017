"""A lock that one process at a time can hold, with a record of its holder."""

import atexit
import json
import logging
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, and the pipelines that it runs."""

    host: str
    pid: int
    # Seconds since 1970; distinguishes the process from a later one with the same id.
    started: float
    # When the lock was acquired, ISO 8601, UTC.
    since: str
    command: str

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
        return f"{self.command}, process {self.pid} on {self.host}, since {self.since}"


class Locked(Exception):
    """Another process, unknown if ``holder`` is None, holds the lock; nothing was changed."""

    # EX_TEMPFAIL of sysexits.h: try again later.
    exit_code = os.EX_TEMPFAIL

    def __init__(self, name: str, holder: Holder | None) -> None:
        super().__init__(f"{name} is already running ({holder or 'holder unknown'}). Exiting without changes.")
        self.holder = holder


class RunLock:
    """A lock on a file, which the operating system releases when its holder ends, even if it is killed.

    It works across machines that share the folder if their file system supports locks. The holder is recorded next to
    it, as ``.json``.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._lock = FileLock(path)
        self._record = path.with_suffix(".json")
        self._name = name

    def acquire(self, command: str) -> None:
        """Acquire the lock without waiting, and record the pipelines that this process runs.

        `Locked` is raised if another process holds it, `UserError` if the folder of the lock is not writable.
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
        earlier = self._read()
        if earlier is not None:
            logger.warning("An earlier run did not end properly (%s). Taking over its lock.", earlier)
        try:
            with written_atomically(self._record) as temporary:
                temporary.write_text(json.dumps(asdict(Holder.current(command)), indent=2) + "\n")
        except BaseException:
            self._lock.release()
            raise
        # Also releases the lock if the run ends without reaching `release`.
        atexit.register(self.release)

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._record.unlink(missing_ok=True)
            self._lock.release()
        atexit.unregister(self.release)

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None
