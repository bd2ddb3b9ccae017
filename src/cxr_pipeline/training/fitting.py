"""Fit a model on prepared images, and predict with it.

A network without frozen layers is trained as a whole, with augmentation in its graph. A model on a pretrained backbone
is trained in two phases from cached features: first its head on pooled features, then the top of the backbone from
activations at the cut. Everything is seeded: the same images, settings and machine give the same weights, even if
training was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.training.batches import batches, image_inputs
from cxr_pipeline.training.checkpoints import Row, prune
from cxr_pipeline.training.epochs import Trainer
from cxr_pipeline.training.features import Images, weights_digest
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.phases import plan_phases
from cxr_pipeline.training.settings import TrainingSettings
from cxr_pipeline.training.versions import FITTING


def fit(
    *,
    model: keras.Model,
    train: ImageSet,
    validation: ImageSet,
    settings: TrainingSettings,
    exclusive: bool,
    augmentation: Mapping[str, Any],
    features: Path,
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a model, starting from finished or interrupted training in `checkpoints` if there is any.

    Checkpoints are reused if model, images, augmentation, settings and library versions are the same.
    ``settings.monitor`` may differ, because the weights of the epoch that each metric selects are stored.

    Args:
        model: from `build_model`. If it has frozen layers, they are the pretrained backbone.
        train: images to train on.
        validation: images to select the epoch on.
        settings: training settings.
        exclusive: exactly one of the model's outputs is true for an image.
        augmentation: parameters of `build_augmentation`, and ``views``.
        features: folder of the feature caches.
        checkpoints: folder of the checkpoints.
        on_epoch: called with the history row of each epoch once it is stored, including epochs that were stored before.

    Returns:
        The model with the weights of the selected epoch, and the history: ``phase``, ``epoch`` (from 1, over all
        phases), ``loss``, ``val_loss``, ``val_auc``, ``val_average_precision``, ``val_accuracy``, ``val_recall``,
        ``val_specificity``, ``learning_rate``, ``seconds``. Metrics are means over the outputs.

    Raises:
        ValueError: the labels do not match the model's outputs.
        UserError: the cut is not a layer of the backbone, or training diverges.
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
        "settings": {name: value for name, value in asdict(settings).items() if name != "monitor"},
    }
    phases = plan_phases(model, train, validation, settings=settings, augmentation=augmentation, folder=features)
    trainer = Trainer(json_digest(decisive), checkpoints, train, validation, settings, exclusive, on_epoch)
    history = trainer.run(phases)
    prune(checkpoints)
    return model, pd.DataFrame(history)


def predict(model: keras.Model, images: Images, sha256s: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Predict uncalibrated probabilities of n images, float32 [n, k], in 0..1, in constant memory."""
    if not len(sha256s):
        return np.empty((0, model.output_shape[-1]), np.float32)
    dataset = batches(image_inputs(images, model.input_shape[1:]), sha256s, batch_size=batch_size)
    scores: np.ndarray = model.predict(dataset, verbose=0)
    return scores.astype(np.float32)


def _describe(layer: Any) -> tuple[str, dict[str, Any]]:
    """Return type and configuration of a layer, except its name, which depends on the layers built before."""
    return type(layer).__name__, {key: value for key, value in layer.get_config().items() if key != "name"}
