"""Losses of a binary classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras import KerasTensor

    Loss = Callable[[KerasTensor, KerasTensor], KerasTensor]


def build_loss(name: str, *, prevalence: float) -> Loss:
    """Choose a loss by name.

    Args:
        name: ``bce``; ``weighted_bce``, where both classes weigh the same in the mean whatever their
            prevalence; ``focal``, with gamma 2 and without class weights.
        prevalence: fraction of positives among the films as they are shown in training, in 0..1.

    Returns:
        Loss of labels and probabilities [n, 1], one value a film.

    Raises:
        ValueError: the name is unknown.

    References:
        Focal loss: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002.
    """
    losses: dict[str, Callable[[], Loss]] = {
        "bce": lambda: keras.losses.BinaryCrossentropy(),
        "weighted_bce": lambda: _weighted_binary_crossentropy(prevalence),
        "focal": lambda: keras.losses.BinaryFocalCrossentropy(gamma=2.0),
    }
    if name not in losses:
        raise ValueError(f"Expected a loss among {', '.join(losses)}. Received: name={name!r}")
    return losses[name]()


def _weighted_binary_crossentropy(prevalence: float) -> Loss:
    """Binary cross-entropy with weight 1/(2p) for positives and 1/(2(1 - p)) for negatives."""
    # One class only is no task, but a smoothed prevalence keeps the loss finite for it.
    positive = min(max(prevalence, 1e-6), 1 - 1e-6)

    def weighted_bce(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        weight = y_true / (2 * positive) + (1 - y_true) / (2 * (1 - positive))
        return keras.ops.mean(weight * keras.ops.binary_crossentropy(y_true, y_pred), axis=-1)

    return weighted_bce
