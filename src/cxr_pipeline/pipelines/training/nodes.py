"""Nodes of the training stage."""

from typing import Any

import pandas as pd

from cxr_pipeline import registry
from cxr_pipeline.config import Augmentation, Folders, Model, Task, Training
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.models.weights import find_weights
from cxr_pipeline.splits import films_of


def fit_model(
    enhanced_images: PreparedFilms,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    task: Task,
    model: Model,
    training: Training,
    augmentation: Augmentation,
    folders: Folders,
) -> tuple[Any, pd.DataFrame]:
    """Fit the network, and tell MLflow of each epoch as it ends.

    Returns:
        the fitted Keras model, and the history with a row for each epoch.
    """
    from cxr_pipeline.models.build import build_model
    from cxr_pipeline.training.film_sets import FilmSet, TrainingSettings
    from cxr_pipeline.training.fitting import fit
    from cxr_pipeline.training.listeners import tell

    def on_epoch(row: dict[str, Any]) -> None:
        registry.log_epoch(row)
        tell(row)

    labels = [f"label_{output}" for output in task.outputs]
    planned = sampling_plan.merge(manifest[["source", "image", *labels]], on=["source", "image"], validate="one_to_one")
    kept_apart = films_of(manifest, splits, "validation")
    network = build_model(
        **model.model_dump(exclude={"weights"}),
        weights_file=find_weights(model.name, model.weights, folders.raw),
        size=enhanced_images.recipe.size,
        n_outputs=len(labels),
        exclusive=task.exclusive,
        cut=training.fine_tuning.cut,
        seed=training.seed,
    )
    return fit(
        model=network,
        train=FilmSet(
            films=enhanced_images,
            sha256=planned["sha256"].to_numpy(str),
            y=planned[labels].to_numpy(),
            weight=planned["weight"].to_numpy(),
            count=planned["count"].to_numpy(),
        ),
        validation=FilmSet.unweighted(
            films=enhanced_images, sha256=kept_apart["sha256"].to_numpy(str), y=kept_apart[labels].to_numpy()
        ),
        settings=TrainingSettings.from_dict(training.model_dump()),
        exclusive=task.exclusive,
        augmentation=augmentation.model_dump(),
        folder=folders.features,
        checkpoints=folders.checkpoints,
        on_epoch=on_epoch,
    )
