"""The training stage."""

from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.config import Augmentation, Folders, Network, Task, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import runs
from cxr_pipeline.training.networks.weights import find_weights


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
    from cxr_pipeline.training.callbacks import run_epoch_callback
    from cxr_pipeline.training.fitting import fit
    from cxr_pipeline.training.image_sets import image_sets
    from cxr_pipeline.training.networks.build import build_model
    from cxr_pipeline.training.settings import TrainingSettings

    def on_epoch(row: dict[str, Any]) -> None:
        runs.log_epoch(row)
        run_epoch_callback(row)

    train, validation = image_sets(enhanced_images, manifest, splits, sampling_plan, outputs=task.outputs)
    network = build_model(
        **model.model_dump(exclude={"weights"}),
        weights_file=find_weights(model.name, model.weights, folders.raw),
        size=enhanced_images.recipe.size,
        n_outputs=len(task.outputs),
        exclusive=task.exclusive,
        cut=training.fine_tuning.cut,
        seed=training.seed,
    )
    return fit(
        model=network,
        train=train,
        validation=validation,
        settings=TrainingSettings.from_dict(training.model_dump()),
        exclusive=task.exclusive,
        augmentation=augmentation.model_dump(),
        features=folders.features,
        checkpoints=folders.checkpoints,
        on_epoch=on_epoch,
    )


def create_pipeline() -> Pipeline:
    """Create the stage from prepared images and the sampling plan to a fitted model."""
    return stage("training", node(fit_model, ["model", "history"]))
