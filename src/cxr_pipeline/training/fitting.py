"""Fitting a model on prepared images, and predicting with it.

A network without frozen layers is trained whole, with augmentation in its graph. A model on a pretrained backbone
is trained in two phases from cached features: its head on pooled features, then the backbone's top from
activations at the cut. The weights of one epoch of all phases are kept, see `choice`. Everything goes by the
seed: the same images, settings and machine give the same weights, killed in between or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.training.batches import batches, image_inputs
from cxr_pipeline.training.checkpoints import Checkpoint, Row
from cxr_pipeline.training.epoch_selection import EpochSelector
from cxr_pipeline.training.epochs import Chosen, Trainer
from cxr_pipeline.training.features import Images, weights_digest
from cxr_pipeline.training.image_sets import ImageSet, TrainingSettings
from cxr_pipeline.training.networks.losses import build_loss
from cxr_pipeline.training.phases import Plan
from cxr_pipeline.training.versions import FITTING

if TYPE_CHECKING:
    from keras import Model


def fit(
    *,
    model: Model,
    train: ImageSet,
    validation: ImageSet,
    settings: TrainingSettings,
    exclusive: bool,
    augmentation: Mapping[str, Any],
    folder: Path,
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
) -> tuple[Model, pd.DataFrame]:
    """Train a model, or go on where a killed training of the same model, images and settings stopped.

    Args:
        model: from `build_model`. Where layers are frozen, the backbone is taken as pretrained.
        train: images that are learnt from.
        validation: images that choose the epoch.
        settings: how.
        exclusive: exactly one of the model's outputs is true of an image.
        augmentation: strengths and seed of `build_augmentation` by name, and ``views``.
        folder: where feature caches lie.
        checkpoints: where the state is kept until the training ends; afterwards too for those that
            ``settings.companions`` announces, which find the training done.
        on_epoch: called with the history row of each epoch, once it is saved; after a kill also with the rows
            of the epochs before it, so that whoever listens knows the whole history.

    Returns:
        The model with the weights of the chosen epoch, and the history: ``phase``, ``epoch`` (from 1, over all
        phases), ``loss``, ``val_loss``, ``val_auc``, ``val_average_precision``, ``val_accuracy``,
        ``val_recall``, ``val_specificity``, ``learning_rate``, ``seconds``. Metrics are means over the outputs.

    Raises:
        ValueError: the labels are not those of the model's outputs.
        UserError: the cut is no layer of the backbone, or training diverges.
    """
    for images in (train, validation):
        images.check_labels(n_outputs=model.output_shape[-1], exclusive=exclusive)
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    decisive = {
        "version": [FITTING, keras.__version__, tf.__version__],
        "model": [weights_digest(model), [_describe(layer) for layer in model.layers]],
        "images": [train.digest, validation.digest],
        "augmentation": dict(augmentation),
    }

    def choose_by(monitor: str) -> Chosen:
        counted = asdict(replace(settings, monitor=monitor, companions=()))
        name = json_digest({**decisive, "settings": counted})[:32]
        choice = EpochSelector(monitor, settings.tolerance, settings.patience)
        return Chosen(choice, Checkpoint(checkpoints / f"{name}.npz"))

    phases, kept = Plan(train, validation, settings, augmentation, folder).phases(model)
    trainer = Trainer(
        loss=build_loss(settings.loss, prevalence=train.prevalence, exclusive=exclusive),
        chosen=choose_by(settings.monitor),
        companions=[choose_by(monitor) for monitor in sorted({*settings.companions} - {settings.monitor})],
        asked_again=settings.monitor in settings.companions,
        y_validation=validation.y,
        exclusive=exclusive,
        kept=kept,
        on_epoch=on_epoch,
        mixed_bfloat16=settings.mixed_bfloat16,
    )
    return model, pd.DataFrame(trainer.run(phases))


def predict(model: Model, images: Images, sha256s: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Raw outputs of a model, with memory that does not grow with the number of images.

    Args:
        model: from `build_model` or `fit`.
        images: the prepared images.
        sha256s: which of them, n.
        batch_size: images at a time.

    Returns:
        Probabilities of the outputs, not calibrated, float32 [n, k], 0..1.
    """
    wanted = np.asarray(sha256s, str)
    if not len(wanted):
        return np.empty((0, model.output_shape[-1]), np.float32)
    inputs = image_inputs(images, wanted)
    order = np.arange(len(wanted))[:, np.newaxis]
    scores: np.ndarray = model.predict(batches(inputs, order, batch_size=batch_size), verbose=0)
    return scores.astype(np.float32)


def _describe(layer: Any) -> tuple[str, dict[str, Any]]:
    """A layer without its name, which counts the layers built in this process."""
    return type(layer).__name__, {key: value for key, value in layer.get_config().items() if key != "name"}
