"""Nodes of the retraining stage. Where nothing is new, or it must stop, they pass that on and do nothing."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.deployment.data_changes import extend_ledger, images_moved
from cxr_pipeline.experiments import cells, results
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.experiments.jobs import Job, run_job
from cxr_pipeline.experiments.run_outputs import Outputs
from cxr_pipeline.framework.config import Folders, Task
from cxr_pipeline.tracking import promotion_records

logger = logging.getLogger(__name__)


def train_challenger(
    news: Mapping[str, Any], earlier_splits: pd.DataFrame, task: Task, folders: Folders, launch: Launch
) -> dict[str, Any]:
    """Run the task's own pipeline, in a process and a folder of its own; what was trained before is taken over.

    Returns:
        the version, and the folder of its outputs; empty where nothing is new.

    Raises:
        UserError: the training failed, or the champion decides between other classes than the task.
    """
    if not news["train"]:
        return {}
    if news["champion"] is not None:
        promotion_records.load_champion(news["model"], news["champion"], kind=task.kind, classes=tuple(task.classes))
    folder = Path(folders.outputs).resolve() / task.name / "retraining" / news["digest"][:16]
    outputs = Outputs(folder, task.name)
    if not _is_trained(outputs, earlier_splits):
        cell = launch.cell(
            task=task.name,
            name="challenger",
            folder=str(folder),
            inputs=str(folders.data.resolve()),
            checkpoints=None,
            overrides={},
            wanted="model_version",
        )
        log = folder / "log.txt"
        logger.info("The challenger is trained; what its process prints is in %s.", log)
        outcome = run_job(Job(cell.name, cells.SESSION, asdict(cell), log=str(log)), neighbours=1)
        results.keep(outcome, folder)
        if outcome.error is not None:
            failure = Unavailable if outcome.may_pass else UserError
            raise failure(f"The challenger of {task.name} was not trained: {outcome.error} (see {log})")
    elif launch.parent_run:
        tracking.nest_run(outputs.version["run_id"], launch.parent_run)
    _forget_others(folder)
    return {"folder": str(folder), **outputs.version}


def _forget_others(folder: Path) -> None:
    """Remove what earlier challengers left, night after night; their versions are in MLflow."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _is_trained(outputs: Outputs, ledger: pd.DataFrame) -> bool:
    """Whether a version was registered, and with the splits that are on record today."""
    try:
        tracking.resolve_version(outputs.version["uri"])
        return images_moved(ledger, outputs.splits).empty
    except (OSError, UserError):
        return False


def extend_splits(challenger: Mapping[str, Any], earlier_splits: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Add the patients that were dealt for the challenger to the split ledger; none ever moves."""
    if not challenger:
        return earlier_splits
    return extend_ledger(earlier_splits, Outputs(Path(challenger["folder"]), task.name).splits, task=task.name)
