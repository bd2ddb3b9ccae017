"""One retraining, and one ablation, of a task at a time."""

import mlflow
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.common.locks import JobLock, Locked
from cxr_pipeline.framework.hooks.runs import task_of
from cxr_pipeline.tracking import promotion_records

# Stages whose runs would write the same files.
ALONE = ("retraining", "ablation")


class Locking:
    """Lets one retraining of a task run at a time, and one ablation."""

    _lock: JobLock | None = None

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the task's lock, after the MLflow run was started, whose id is on record with it.

        The run of a job that was killed is ended.

        Raises:
            Locked: another one is at work; the MLflow run is ended and tagged.
        """
        task = task_of(pipeline)
        stage = next((stage for stage in ALONE if f"params:{task}.{stage}" in pipeline.inputs()), None)
        if stage is None:
            return
        outputs = catalog.load("params:folders").outputs
        lock = JobLock(outputs / task / stage / "job.lock", f"The {stage} of {task}")
        run = mlflow.active_run()
        try:
            killed = lock.take(run.info.run_id if run else None)
        except Locked:
            promotion_records.end_skipped("locked")
            raise
        self._lock = lock
        if killed is not None and killed.run_id is not None:
            tracking.end_killed(killed.run_id)

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Give the lock back."""
        self._release()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Give the lock back."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
