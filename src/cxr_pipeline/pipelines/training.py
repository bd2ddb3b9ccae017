"""The training stage."""

from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import count_splits, select_split
from cxr_pipeline.experiments.digests import table_digest
from cxr_pipeline.framework.config import Augmentation, Folders, Network, Task, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import runs


def fit_model(
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    task: Task,
    model: Network,
    training: Training,
    augmentation: Augmentation,
    folders: Folders,
) -> tuple[Any, pd.DataFrame]:
    """Train the network and log each epoch to MLflow."""
    from cxr_pipeline.training.checkpoints import run_epoch_callback
    from cxr_pipeline.training.fitting import fit
    from cxr_pipeline.training.image_sets import image_sets

    def on_epoch(row: dict[str, Any]) -> None:
        runs.log_epoch(row)
        run_epoch_callback(row)

    counts = count_splits(manifest, splits, tuple(task.classes))["train"]
    images = select_split(manifest, splits, "train")[["sha256", *(f"label_{name}" for name in task.classes)]]
    runs.log_images("training", digest=table_digest(images), n_images=len(images), counts=counts)
    train, validation = image_sets(enhanced_images, manifest, splits, sampling_plan, outputs=task.outputs)
    return fit(
        model=model.build(size=enhanced_images.recipe.size, task=task, training=training, raw=folders.raw),
        train=train,
        validation=validation,
        settings=training,
        exclusive=task.exclusive,
        augmentation=augmentation.model_dump(),
        features=folders.features,
        checkpoints=folders.checkpoints,
        on_epoch=on_epoch,
    )


def create_pipeline() -> Pipeline:
    """Create the stage from prepared images and the sampling plan to a fitted model."""
    return stage("training", node(fit_model, ["model", "history"]))
