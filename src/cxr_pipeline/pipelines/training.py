"""The training stage."""

import logging
from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import count_splits, member_splits, select_split, trained_on
from cxr_pipeline.experiments.digests import table_digest
from cxr_pipeline.framework.config import Augmentation, Folders, Network, Sources, Task, Training
from cxr_pipeline.framework.pretraining import describe_pretraining
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import runs

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
    folders: Folders,
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    """Train the network and log each epoch to MLflow; stop before that if pretraining used the test images."""
    from cxr_pipeline.training.checkpoints import run_epoch_callback
    from cxr_pipeline.training.networks.ensemble import combine
    from cxr_pipeline.training.phases import shared_layer

    pretraining = describe_pretraining(model, manifest, splits, sources=sources, folders=folders)
    networks, histories = [], []
    for member, member_split in enumerate(member_splits(splits, training.folds), start=1):

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


def _log_training_images(manifest: pd.DataFrame, splits: pd.DataFrame, task: Task, training: Training) -> None:
    """Log digest and counts of the images that a network was trained on."""
    seen = trained_on(splits, training.folds)
    images = select_split(manifest, seen, "train")[["sha256", *(f"label_{name}" for name in task.classes)]]
    counts = count_splits(manifest, seen, tuple(task.classes))["train"]
    runs.log_images("training", digest=table_digest(images), n_images=len(images), counts=counts)


def create_pipeline() -> Pipeline:
    """Create the stage from prepared images and the sampling plan to a fitted model."""
    return stage("training", node(fit_model, ["model", "history", "pretraining"]))
