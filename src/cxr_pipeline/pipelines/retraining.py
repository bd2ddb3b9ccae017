"""The retraining stage. Its nodes do nothing if no challenger is to be trained."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.deployment.data_changes import extend_registry, find_moved
from cxr_pipeline.experiments.jobs import Job, run_job
from cxr_pipeline.experiments.task_run import MODULE, RunOutputs, TaskRun
from cxr_pipeline.framework.config import Folders, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import promotion_records, runs, versions

logger = logging.getLogger(__name__)


def train_challenger(
    validated_changes: Mapping[str, Any],
    earlier_splits: pd.DataFrame,
    task: Task,
    folders: Folders,
    current_run: TaskRun,
) -> dict[str, Any]:
    """Run the pipeline of the task in a separate process and folder, or reuse a challenger that was trained before."""
    if not validated_changes["train"]:
        return {}
    model, champion = validated_changes["model"], validated_changes["champion"]
    if champion is not None:
        promotion_records.load_champion(model, champion, kind=task.kind, classes=tuple(task.classes))
    folder = Path(folders.outputs).resolve() / task.name / "retraining" / validated_changes["digest"][:16]
    outputs = RunOutputs(folder, task.name)
    if not _is_trained(outputs, earlier_splits):
        log = folder / "log.txt"
        logger.info("Training the challenger; the output of its process is in %s.", log)
        run = current_run.child("challenger", folder=folder, to_output="report")
        outcome = run_job(Job("challenger", MODULE, asdict(run), log=str(log)), neighbours=1)
        if outcome.error is not None:
            failure = Unavailable if outcome.retryable else UserError
            raise failure(f"The challenger of {task.name} was not trained: {outcome.error} (see {log})")
    elif current_run.run_id:
        runs.nest_run(outputs.load("model_version")["run_id"], current_run.run_id)
    for warning in outputs.load("warnings"):
        logger.warning("The challenger: %s", warning)
    # The versions of earlier challengers are in MLflow.
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return {"folder": str(folder), **outputs.load("model_version")}


def _is_trained(outputs: RunOutputs, registry: pd.DataFrame) -> bool:
    """Return whether a version was registered and reported on, with the splits of the current registry."""
    if not outputs.path("report").exists():
        return False
    try:
        versions.resolve_version(outputs.load("model_version")["uri"])
        return find_moved(registry, outputs.load("splits")).empty
    except UserError:
        return False


def extend_splits(challenger: Mapping[str, Any], earlier_splits: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Add the splits of the challenger to the split registry."""
    if not challenger:
        return earlier_splits
    assigned = RunOutputs(Path(challenger["folder"]), task.name).load("splits")
    return extend_registry(earlier_splits, assigned, task=task.name)


def create_pipeline() -> Pipeline:
    """Create the stage that trains a challenger and adds its splits to the split registry."""
    return stage(
        "retraining",
        node(train_challenger, "challenger"),
        node(extend_splits, "splits"),
    )
