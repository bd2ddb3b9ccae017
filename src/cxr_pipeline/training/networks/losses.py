"""Losses of a classifier.

Labels are 1, 0, or, where classes do not exclude each other, NaN for unknown. An unknown label adds nothing to the
loss and nothing to its gradient: the mean is taken over the known labels of a batch, so that each of them has the
same say, whichever image it is of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

if TYPE_CHECKING:
    from keras import KerasTensor

    Loss = Callable[[KerasTensor, KerasTensor], KerasTensor]


NAMES = ("cross_entropy", "weighted_cross_entropy", "focal")
FOCAL_GAMMA = 2.0
# A class that is never or always there would have an infinite weight.
_RAREST = 1e-6


def build_loss(name: str, *, prevalence: np.ndarray, exclusive: bool) -> Loss:
    """Choose a loss by name.

    Args:
        name: ``cross_entropy``; ``weighted_cross_entropy``, where both values of a label (or, if exclusive, all
            classes) weigh the same in the mean whatever their prevalence; ``focal``, with gamma 2 and without
            class weights.
        prevalence: fraction of positives of each output among the images as they are shown in training,
            [k], in 0..1; NaN where no label is known.
        exclusive: categorical over the outputs; otherwise binary for each of them.

    Returns:
        Loss of labels and probabilities [n, k], one value [n] an image, whose mean is the loss of the batch.

    Raises:
        ValueError: the name is unknown.

    References:
        Focal loss: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002.
    """
    losses = _categorical_losses(prevalence) if exclusive else _binary_losses(prevalence)
    if name not in losses:
        raise ValueError(f"Expected a loss among {', '.join(losses)}. Received: name={name!r}")
    return losses[name]


def _categorical_losses(prevalence: np.ndarray) -> dict[str, Loss]:
    """Losses of one-hot labels, by name; weight 1/(kp) for a class of prevalence p, 1 in the mean over images."""
    weights = (1 / (len(prevalence) * np.clip(prevalence, _RAREST, None))).astype(np.float32)

    def weighted(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        weight = keras.ops.sum(y_true * weights, axis=-1)
        return weight * keras.losses.categorical_crossentropy(y_true, y_pred)

    def focal(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        return keras.losses.categorical_focal_crossentropy(y_true, y_pred, alpha=1.0, gamma=FOCAL_GAMMA)

    return dict(zip(NAMES, (keras.losses.categorical_crossentropy, weighted, focal), strict=True))


def _binary_losses(prevalence: np.ndarray) -> dict[str, Loss]:
    """Losses of independent labels, by name; weight 1/(2p) for positives and 1/(2(1 - p)) for negatives."""
    positive = np.clip(np.nan_to_num(prevalence, nan=0.5), _RAREST, 1 - _RAREST)
    twice_positive, twice_negative = ((2 * part).astype(np.float32) for part in (positive, 1 - positive))

    def weighted(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        weight = y_true / twice_positive + (1 - y_true) / twice_negative
        return weight * keras.ops.binary_crossentropy(y_true, y_pred)

    def focal(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        one_by_one = (labels[..., np.newaxis] for labels in (y_true, y_pred))
        return keras.losses.binary_focal_crossentropy(*one_by_one, gamma=FOCAL_GAMMA)

    return dict(zip(NAMES, map(_over_known, (keras.ops.binary_crossentropy, weighted, focal)), strict=True))


def _over_known(loss_of_labels: Loss) -> Loss:
    """From a loss of each label [n, k] to one of each image [n], whose mean is that over the known labels."""

    def loss(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        y_true = keras.ops.convert_to_tensor(y_true)
        known = keras.ops.logical_not(keras.ops.isnan(y_true))
        # Unknown labels are replaced before and after: NaN times 0 would be NaN, in the gradient too.
        values = loss_of_labels(keras.ops.where(known, y_true, 0.0), keras.ops.convert_to_tensor(y_pred))
        values = keras.ops.where(known, values, 0.0)
        n_known = keras.ops.sum(keras.ops.cast(known, "float32"))
        n_images = keras.ops.cast(keras.ops.shape(y_true)[0], "float32")
        return keras.ops.sum(values, axis=-1) * (n_images / keras.ops.maximum(n_known, 1.0))

    return loss
