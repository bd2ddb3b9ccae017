"""One job at a time: a lock with a record of who holds it.

The lock is the operating system's. It is free as soon as its holder is gone, however that ended; then a record that
was left behind belongs to nobody.
"""

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

from cxr_pipeline.common.files import written_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: name of the machine.
        pid: id of the process on it.
        started: when that process was started, in seconds since 1970; a later one may get the same id.
        since: when it took the lock, ISO 8601, UTC.
        run_id: its MLflow run; None where nothing is tracked.
    """

    host: str
    pid: int
    started: float
    since: str
    run_id: str | None

    @classmethod
    def here(cls, run_id: str | None) -> "Holder":
        """This process, now."""
        process = psutil.Process()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(platform.node(), process.pid, process.create_time(), since, run_id)

    def is_gone(self) -> bool:
        """Whether the process surely runs no more; of another machine that is not known."""
        if self.host != platform.node():
            return False
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) > 1)
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        run = f", MLflow run {self.run_id}" if self.run_id else ""
        return f"process {self.pid} on {self.host}, since {self.since}{run}"


class Locked(Exception):
    """Another job is at work; nothing was done and nothing is wrong.

    Args:
        what: what is being done, such as ``"effusion_retraining"``.
        holder: who does it; None where that is not known.
    """

    # The exit status of a process that should be tried again later: EX_TEMPFAIL of sysexits.h.
    exit_code = os.EX_TEMPFAIL

    def __init__(self, what: str, holder: Holder | None) -> None:
        who = holder or "a process that has not yet written who it is"
        super().__init__(f"{what} is at work already: {who}. This one ends; nothing was done.")
        self.holder = holder


class JobLock:
    """A lock that one process at a time can hold.

    It works between machines that share the folder, as far as their file system locks files.

    Args:
        path: of the lock's file; who holds it is written beside it, as ``.json``.
        what: what is being done, for messages.

    Example:
        >>> lock = JobLock(folder / "retraining.lock", "effusion_retraining")  # doctest: +SKIP
        >>> lock.take(run_id=None)  # doctest: +SKIP
        >>> lock.release()  # doctest: +SKIP
    """

    def __init__(self, path: Path, what: str) -> None:
        self._lock = FileLock(path)
        self._path = path
        self._record = path.with_suffix(".json")
        self._what = what

    def take(self, run_id: str | None) -> Holder | None:
        """Take the lock at once or not at all.

        Returns:
            who held it last and was killed; None where the last one gave it back.

        Raises:
            Locked: another job holds it.
            UserError: its folder cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = self._read()
            # The record of one that was killed; the new holder is about to replace it.
            raise Locked(self._what, None if holder is None or holder.is_gone() else holder) from None
        left = self._read()
        if left is not None:
            logger.warning("%s was not ended properly before (%s); its lock is taken over.", self._what, left)
        try:
            with written_atomically(self._record) as beside:
                beside.write_text(json.dumps(asdict(Holder.here(run_id)), indent=2) + "\n")
        except BaseException:
            self._lock.release()
            raise
        return left

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError):
            self._record.unlink(missing_ok=True)
        self._lock.release()

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None
