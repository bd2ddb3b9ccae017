"""Allow only one run at a time to write into the data folder of a task."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.common.locks import RunLock
from cxr_pipeline.framework.hooks.runs import Configured, tasks_of


class Locking(Configured):
    """Holds a lock on the data folder of each task of the pipeline while it runs.

    Every pipeline of a task writes there. Two concurrent runs would overwrite each other's files, and register the
    network of one with the parameters of the other.
    """

    def __init__(self) -> None:
        self._locks: list[RunLock] = []
        self._interrupted_runs: list[str] = []

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Acquire the locks.

        Raises:
            Locked: another run holds one of them.
        """
        command = "+".join(run_params.get("pipeline_names") or ["__default__"])
        # Kedro does not report errors of other hooks before the first node to hooks.
        self._release()
        try:
            # All runs acquire locks in the same order, so that two runs cannot deadlock.
            for task in tasks_of(pipeline):
                # If MLflow is unavailable when the run ends, the record tells the next run to end it there.
                lock = RunLock(self.task_folder(task) / "run.lock", task, keeps_record=tracking.run_is_open)
                earlier = lock.acquire(command)
                self._locks.append(lock)
                if earlier is not None and earlier.run_id is not None:
                    self._interrupted_runs.append(earlier.run_id)
        except BaseException:
            self._release()
            raise

    @hook_impl(specname="before_pipeline_run", trylast=True)
    def note_tracking(self) -> None:
        """End the MLflow runs of holders that were killed, and record the one that was started for this run."""
        for run_id in self._interrupted_runs:
            tracking.end_killed(run_id)
        self._interrupted_runs.clear()
        current = tracking.last_run_id()
        if current is not None:
            for lock in self._locks:
                lock.note_run(current)

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Release the locks."""
        self._release()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Release the locks."""
        self._release()

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()
