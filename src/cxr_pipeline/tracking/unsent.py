"""What a run could not tell MLflow: kept in order in a folder of the run, until a server has taken it.

The folder holds ``about.json`` (whose it is), ``operations.jsonl`` (a line for each thing that was not sent),
``files/`` (copies of the artifacts, as they were then) and ``sent.json`` (how many lines MLflow has taken).
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxr_pipeline.common.files import written_atomically

Operation = dict[str, Any]

_ABOUT, _OPERATIONS, _FILES, _SENT, _LOCK = "about.json", "operations.jsonl", "files", "sent.json", "lock"
# What must be in about.json.
_SAID = {"run_id", "name", "server", "version_file"}


class Unsent:
    """The folder of one run. It is locked by who fills or empties it, and free when that process is gone.

    Args:
        folder: named after the run; it is made when something is kept.

    Example:
        >>> unsent = Unsent(folder / run_id)  # doctest: +SKIP
        >>> unsent.keep({"kind": "tags", "tags": {"a": "b"}}, about={"run_id": run_id})  # doctest: +SKIP
        >>> unsent.waiting()  # doctest: +SKIP
        [{'kind': 'tags', 'tags': {'a': 'b'}}]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / _LOCK, thread_local=False)

    def take(self) -> None:
        """Lock the folder, which must be there, at once or not at all.

        Raises:
            TimeoutError: another process fills or empties it.
            OSError: this user may not lock it.
        """
        self._lock.acquire(timeout=0)

    def release(self) -> None:
        """Give the folder back."""
        self._lock.release()

    def keep(self, operation: Operation, *, about: Mapping[str, Any], file: Path | None = None) -> None:
        """Add what was not sent as the last.

        Args:
            operation: JSON-able.
            about: whose it is, JSON-able; written once.
            file: an artifact, copied as it is now; a file or a folder.

        Raises:
            OSError, UserError: it could not be written; nothing was added.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.is_locked:
            self.take()
        if not self.is_there():
            with written_atomically(self.folder / _ABOUT) as beside:
                beside.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if file is not None:
            operation = {**operation, "file": self._copy(file)}
        line = json.dumps(operation, allow_nan=False).encode() + b"\n"
        with (self.folder / _OPERATIONS).open("ab") as lines:
            whole = self._mend()
            try:
                lines.write(line)
                lines.flush()
                os.fsync(lines.fileno())
            except OSError:
                os.truncate(self.folder / _OPERATIONS, whole)
                raise

    def is_there(self) -> bool:
        """Whether anything was kept, and nobody has sent it since."""
        return (self.folder / _ABOUT).exists()

    def about(self) -> dict[str, Any]:
        """Whose folder it is, as ``keep`` was told.

        Raises:
            OSError, ValueError: it cannot be read, or does not say so.
        """
        found = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not found.keys() >= _SAID:
            raise ValueError(f"{_ABOUT} does not say {', '.join(sorted(_SAID))}")
        return found

    def waiting(self) -> list[Operation]:
        """What MLflow has not taken yet, the oldest first."""
        return self._operations()[self._n_sent() :]

    def acknowledge(self) -> None:
        """Note that MLflow has taken the first of those that wait."""
        n_sent = self._n_sent() + 1
        with written_atomically(self.folder / _SENT) as beside:
            beside.write_text(json.dumps({"sent": n_sent}))

    def remove(self) -> None:
        """Delete the folder, which must be locked, once nothing waits in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def _operations(self) -> list[Operation]:
        """A line that a kill has cut short was never kept."""
        if not (self.folder / _OPERATIONS).exists():
            return []
        content = (self.folder / _OPERATIONS).read_bytes()
        return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]

    def _n_sent(self) -> int:
        if not (self.folder / _SENT).exists():
            return 0
        return int(json.loads((self.folder / _SENT).read_text())["sent"])

    def _mend(self) -> int:
        """Take away a line that a kill has cut short; returns the size then."""
        content = (self.folder / _OPERATIONS).read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.folder / _OPERATIONS, whole)
        return whole

    def _copy(self, file: Path) -> str:
        place = self.folder / _FILES / f"{len(self._operations()) + 1:05}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if file.is_dir():
            shutil.copytree(file, place / file.name)
        else:
            shutil.copy2(file, place / file.name)
        return (place / file.name).relative_to(self.folder).as_posix()


def left_in(folder: Path) -> list[Unsent]:
    """The runs that have something to send, the one that began to wait first as the first.

    Args:
        folder: with a folder for each run; it need not exist.
    """
    found = []
    for path in folder.glob(f"*/{_ABOUT}"):
        with suppress(FileNotFoundError):  # Another process may just have sent it.
            found.append((path.stat().st_mtime_ns, path.parent))
    return [Unsent(run) for _, run in sorted(found)]


def in_words(operations: Iterable[Mapping[str, Any]]) -> str:
    """Say what operations hold.

    Example:
        >>> in_words([{"kind": "params", "params": {"a": "1", "b": "2"}}, {"kind": "end", "status": "FINISHED"}])
        '2 parameters, the end of the run'
    """
    counts: Counter[str] = Counter()
    others: list[str] = []
    for operation in operations:
        kind = operation["kind"]
        if kind in ("params", "metrics", "tags"):
            counts[kind] += len(operation[kind])
        elif kind == "artifact":
            counts["artifacts"] += 1
        else:
            others.append(f"a version of {operation['name']}" if kind == "version" else "the end of the run")
    singular = {"params": "parameter", "metrics": "metric", "tags": "tag", "artifacts": "artifact"}
    words = [f"{n} {singular[kind]}{'' if n == 1 else 's'}" for kind, n in counts.items()]
    return ", ".join([*words, *others])
