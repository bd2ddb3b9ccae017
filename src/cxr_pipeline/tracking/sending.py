"""The way to MLflow that everything takes which a run tells of itself.

A server that stops answering costs a run nothing but the sending. From then on everything is kept, in order, in the
run's folder of `unsent`; now and then, and at the end, the run looks whether the server is back.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from requests import HTTPError

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.evaluation.evaluate import numbers_of
from cxr_pipeline.tracking.leftovers import empty, send_left
from cxr_pipeline.tracking.operations import perform
from cxr_pipeline.tracking.server import answers, is_away, patience, reason, without_password
from cxr_pipeline.tracking.unsent import Operation, Unsent, in_words

_log = logging.getLogger(__name__)

# Seconds between two looks whether a server is back.
PAUSE = 30.0


class NotSent(Unavailable):
    """A server is away, and what it should have got is kept."""


@dataclass
class Outbox:
    """What is sent of one run, or kept.

    Args:
        run_id: of the MLflow run.
        unsent: where what is not sent is kept.
        about: whose that is: ``run_id``, ``name``, ``server`` without a password, ``parent``, the run that it is a cell
            of, or None, and ``version_file``, the file that a version registered later is written to, or None.
        command: that sends later what is kept.
    """

    run_id: str
    unsent: Unsent
    about: Mapping[str, Any]
    command: str
    _waits: bool = field(default=False, init=False)
    _next_look: float = field(default=0.0, init=False)
    _lost: list[Operation] = field(default_factory=list, init=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False)

    def deliver(self, operation: Operation, file: Path | None = None, *, look: bool = False) -> dict[str, Any] | None:
        """Send an operation after those that wait, or keep it; ``look`` whether the server is back, whenever that was.

        Raises:
            MlflowException, HTTPError: the server answers, and refuses it.
        """
        with self._one_at_a_time:
            if self._waits and not self._is_back(look=look):
                self._keep(operation, file)
                return None
            try:
                return perform(operation, file)
            except (MlflowException, HTTPError) as error:
                if not is_away(error):
                    raise
                _log.warning(
                    "MLflow at %s does not answer (%s). The run goes on; what it cannot send is kept in %s.",
                    *(self.about["server"], reason(error), self.unsent.folder),
                )
                self._keep(operation, file)
                return None

    def is_sent(self) -> bool:
        """Whether nothing waits, after a last look whether the server is back, and nothing was lost."""
        with self._one_at_a_time:
            return not self._lost and (not self._waits or self._is_back(look=True))

    def left(self) -> NotSent:
        """What waits and was lost, in words."""
        said = f"MLflow at {self.about['server']} does not answer any more. What was computed is on disk."
        if self._waits:
            said += (
                f" Not sent yet: {in_words(self.unsent.waiting())}; it is kept in {self.unsent.folder}. When the "
                f"server answers again: {self.command}"
            )
        if self._lost:
            said += f" Neither sent nor kept, since {self.unsent.folder} cannot be written: {in_words(self._lost)}."
        return NotSent(said)

    def _keep(self, operation: Operation, file: Path | None) -> None:
        self._next_look = self._next_look if self._waits else time.monotonic() + PAUSE
        try:
            self.unsent.keep(operation, about=self.about, file=file)
            self._waits = True
        except (OSError, UserError) as error:
            self._lost.append(operation)
            _log.warning("%s cannot be written (%s): %s lost.", self.unsent.folder, error, in_words([operation]))

    def _is_back(self, *, look: bool) -> bool:
        """Whether the server is back and has taken what waited."""
        if not look and time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + PAUSE
        if not answers(mlflow.get_tracking_uri()):
            return False
        sent, problem = empty(self.unsent)
        if problem is not None:
            _log.warning("MLflow is back, but did not take what was kept: %s", problem)
            return False
        _log.info("MLflow is back, and has now %s.", in_words(sent))
        self._waits = False
        return True


_outbox: Outbox | None = None


def open_outbox(folder: Path, *, name: str, command: str, version_file: str | None, parent: str | None = None) -> None:
    """Keep from now on, in a folder of the active run below ``folder``, what cannot be sent.

    Args:
        folder: of all that is not sent.
        name: of the run, for people.
        command: that sends what is kept.
        version_file: where the catalog keeps the version that the run registers, or None.
        parent: id of the run that it is a cell of, or None.
    """
    global _outbox
    run = mlflow.active_run()
    if run is None:
        _outbox = None
        return
    server = without_password(mlflow.get_tracking_uri())
    if server != mlflow.get_tracking_uri():
        # At the end of a run MLflow prints its page, with the password.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    run_id = run.info.run_id
    about = {"run_id": run_id, "name": name, "server": server, "parent": parent, "version_file": version_file}
    _outbox = Outbox(run_id, Unsent(folder / run_id), about, command)


def run_id() -> str | None:
    """The run that is being told of: the active one, or the one of the outbox in a thread that has no active one."""
    run = mlflow.active_run()
    if run is not None:
        return str(run.info.run_id)
    return _outbox.run_id if _outbox else None


def log_params(params: Mapping[str, Any]) -> None:
    """Log parameters of the run; nothing without one."""
    if params:
        _deliver("params", params={name: str(value) for name, value in params.items()})


def log_metrics(values: Mapping[str, Any], *, step: int) -> None:
    """Log those values that are numbers, at a step; nothing without a run."""
    if numbers := numbers_of(values):
        _deliver("metrics", metrics=numbers, step=step)


def set_tags(tags: Mapping[str, Any]) -> None:
    """Tag the run; nothing without one."""
    if tags:
        _deliver("tags", tags={name: str(value) for name, value in tags.items()})


def log_artifact(path: Path, folder: str | None = None) -> None:
    """Log a file, or a folder with all that is in it, to a folder of the run; nothing without a run."""
    _deliver("artifact", path, folder=folder)


def end_run(status: str) -> None:
    """End the run; nothing without one. In this process it is ended even where MLflow cannot be told."""
    run = mlflow.active_run()
    if run is None:
        return
    _deliver("end", look=True, status=status)
    # Where the end is kept, it is still the active run.
    with suppress(MlflowException), patience(timeout=1, retries=0):
        if (left := mlflow.active_run()) is not None and left.info.run_id == run.info.run_id:
            mlflow.end_run(status)


def register(classifier: Path, **version: Any) -> dict[str, Any]:
    """Register a version of a model, or keep it to be registered later.

    Args:
        classifier: its folder.
        version: what the operation ``version`` takes beside it.

    Returns:
        ``name``, ``version``, ``uri``, ``run_id`` and ``digest``; ``version`` and ``uri`` are None where it is kept.
    """
    if run_id() is None:
        mlflow.start_run()
    registered = _deliver("version", classifier, look=True, **version)
    later = {"name": version["name"], "version": None, "uri": None}
    return registered or {**later, "run_id": run_id(), "digest": version["tags"]["digest"]}


def check_sent() -> None:
    """Check that MLflow has all that the run and its cells told; what cells could not send is sent now.

    Raises:
        NotSent: it has not; what waits is free to be sent by anyone then.
    """
    if _outbox is None:
        return
    if not _outbox.is_sent():
        left = _outbox.left()
        _outbox.unsent.release()
        raise left
    problems = []
    for cell in send_left(_outbox.unsent.folder.parent, parent=_outbox.run_id):
        if cell.sent:
            _log.info("Sent what %s could not: %s.", cell.name, cell.sent)
        if cell.problem:
            problems.append(f"Not sent of {cell.name}: {cell.problem}.")
    if problems:
        raise NotSent(" ".join([*problems, f"When that is mended: {_outbox.command}"]))


def _deliver(kind: str, file: Path | None = None, *, look: bool = False, **content: Any) -> dict[str, Any] | None:
    run = run_id()
    if run is None:
        return None
    operation = {"kind": kind, "run_id": run, "time": time.time_ns() // 1_000_000, **content}
    if _outbox is None or _outbox.run_id != run:
        return perform(operation, file)
    return _outbox.deliver(operation, file, look=look)
