"""Losses of a classifier.

Labels are 1, 0 or, if classes are not exclusive, NaN for unknown. An unknown label adds nothing to the loss or its
gradient: the loss is the mean over the known labels of a batch, all with the same weight.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]

NAMES = ("cross_entropy", "weighted_cross_entropy", "focal")
FOCAL_GAMMA = 2.0
# Keeps the weight finite if a class is always or never present.
_MIN_PREVALENCE = 1e-6


def build_loss(name: str, *, prevalence: np.ndarray, exclusive: bool) -> Loss:
    """Build a loss of labels and probabilities [n, k], one value per image [n], whose mean is the loss of the batch.

    It is categorical if the outputs are exclusive, otherwise binary for each. ``prevalence`` is the fraction of
    positives of each output among the images as shown in training, [k], in 0..1; NaN if no label is known. The names
    are ``cross_entropy``; ``weighted_cross_entropy``, in which both values of a label (or, if exclusive, all classes)
    have the same total weight; and ``focal`` (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
    arXiv:1708.02002), with gamma 2 and without class weights.
    """
    losses = _categorical_losses(prevalence) if exclusive else _binary_losses(prevalence)
    return dict(zip(NAMES, losses, strict=True))[name]


def _categorical_losses(prevalence: np.ndarray) -> tuple[Loss, ...]:
    """Losses of one-hot labels; a class of prevalence p has the weight 1/(kp), on average 1 over the images."""
    weights = (1 / (len(prevalence) * np.clip(prevalence, _MIN_PREVALENCE, None))).astype(np.float32)

    def weighted(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.sum(y_true * weights, axis=-1) * keras.losses.categorical_crossentropy(y_true, y_pred)

    def focal(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return keras.losses.categorical_focal_crossentropy(y_true, y_pred, alpha=1.0, gamma=FOCAL_GAMMA)

    return keras.losses.categorical_crossentropy, weighted, focal


def _binary_losses(prevalence: np.ndarray) -> tuple[Loss, ...]:
    """Losses of independent labels; positives have the weight 1/(2p) and negatives 1/(2(1 - p))."""
    positive = np.clip(np.nan_to_num(prevalence, nan=0.5), _MIN_PREVALENCE, 1 - _MIN_PREVALENCE)
    twice_positive, twice_negative = ((2 * part).astype(np.float32) for part in (positive, 1 - positive))

    def weighted(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        weight = y_true / twice_positive + (1 - y_true) / twice_negative
        return weight * keras.ops.binary_crossentropy(y_true, y_pred)

    def focal(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        # Keras averages over the last axis, which keeps one value per label if it has length 1.
        one_by_one = (labels[..., np.newaxis] for labels in (y_true, y_pred))
        return keras.losses.binary_focal_crossentropy(*one_by_one, gamma=FOCAL_GAMMA)

    return tuple(map(_over_known, (keras.ops.binary_crossentropy, weighted, focal)))


def _over_known(label_loss: Loss) -> Loss:
    """Convert a loss per label [n, k] to one per image [n], whose mean is the mean over the known labels."""

    def loss(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        y_true = keras.ops.convert_to_tensor(y_true)
        known = keras.ops.logical_not(keras.ops.isnan(y_true))
        # Unknown labels are replaced before and after, because NaN times 0 is NaN, in the gradient too.
        values = label_loss(keras.ops.where(known, y_true, 0.0), keras.ops.convert_to_tensor(y_pred))
        values = keras.ops.where(known, values, 0.0)
        n_known = keras.ops.sum(keras.ops.cast(known, "float32"))
        n_images = keras.ops.cast(keras.ops.shape(y_true)[0], "float32")
        return keras.ops.sum(values, axis=-1) * (n_images / keras.ops.maximum(n_known, 1.0))

    return loss
