"""The training stage."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.progress import track
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import count_splits, member_splits, select_split, trained_on
from cxr_pipeline.experiments.digests import table_digest
from cxr_pipeline.experiments.jobs import Job, run_jobs
from cxr_pipeline.experiments.task_run import MODULE, TaskRun
from cxr_pipeline.framework.config import Augmentation, Folders, Network, Parallel, Sources, Task, Training
from cxr_pipeline.framework.pretraining import describe_pretraining
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import runs
from cxr_pipeline.training.networks.weights import is_pretrained

logger = logging.getLogger(__name__)


def fit_model(
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    sources: Sources,
    task: Task,
    model: Network,
    training: Training,
    augmentation: Augmentation,
    parallel: Parallel,
    folders: Folders,
    current_run: TaskRun,
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    """Train the network and log each epoch to MLflow; stop before that if pretraining used the test images.

    Of an ensemble, a run that was started for one network trains only that one.
    """
    from cxr_pipeline.training.checkpoints import run_epoch_callback
    from cxr_pipeline.training.networks.ensemble import combine
    from cxr_pipeline.training.phases import shared_layer

    pretraining = describe_pretraining(model, manifest, splits, sources=sources, folders=folders)
    members = list(enumerate(member_splits(splits, training.folds), start=1))
    if current_run.member is not None:
        members = [members[current_run.member - 1]]
    elif len(members) > 1 and parallel.is_requested and not current_run.is_cell:
        _train_in_parallel(len(members), model, current_run, parallel, folders)
    networks, histories = [], []
    for member, member_split in members:

        def on_epoch(row: dict[str, Any], member: int = member) -> None:
            runs.log_epoch(row, member=member if training.folds > 1 else None)
            run_epoch_callback({**row, "member": member})

        if training.folds > 1:
            logger.info("Training network %d of %d.", member, training.folds)
        settings = training.model_copy(update={"seed": training.seed + member - 1})
        plan = sampling_plan[sampling_plan["member"] == member]
        data = (enhanced_images, manifest, member_split, plan)
        about: dict[str, Any] = {"task": task, "augmentation": augmentation, "folders": folders}
        network, history = settings.fit(model, *data, **about, on_epoch=on_epoch)
        networks.append(network)
        histories.append(history.assign(member=member))
    _log_training_images(manifest, splits, task, training)
    ensemble = combine(networks, shared_layer(networks[0], training))
    return ensemble, pd.concat(histories, ignore_index=True), pretraining


def _train_in_parallel(
    n_members: int, model: Network, current_run: TaskRun, parallel: Parallel, folders: Folders
) -> None:
    """Train the networks of an ensemble in parallel processes, whose checkpoints this process then finds."""
    parent = Path(folders.outputs).resolve() / current_run.task / "networks"
    # The first network caches most features that the others need.
    shares = ("features",) if is_pretrained(model.name, model.weights) else ()
    jobs, failed = [], False
    for member in range(1, n_members + 1):
        folder = parent / str(member)
        run = current_run.child(f"network {member}", folder=folder, to_output="history", member=member)
        jobs.append(Job(f"network {member}", MODULE, asdict(run), log=str(folder / "log.txt"), shares=shares))
    for outcome in track(run_jobs(jobs, width=n_members, **parallel.model_dump()), "Networks", n_members):
        if outcome.error is not None:
            failed = True
            logger.warning("%s is trained in this process, because its own failed: %s", outcome.name, outcome.error)
    if not failed:  # otherwise, the logs there say why
        shutil.rmtree(parent, ignore_errors=True)


def _log_training_images(manifest: pd.DataFrame, splits: pd.DataFrame, task: Task, training: Training) -> None:
    """Log digest and counts of the images that a network was trained on."""
    seen = trained_on(splits, training.folds)
    images = select_split(manifest, seen, "train")[["sha256", *(f"label_{name}" for name in task.classes)]]
    counts = count_splits(manifest, seen, tuple(task.classes))["train"]
    runs.log_images("training", digest=table_digest(images), n_images=len(images), counts=counts)


def create_pipeline() -> Pipeline:
    """Create the stage from prepared images and the sampling plan to a fitted model."""
    return stage("training", node(fit_model, ["model", "history", "pretraining"]))
