"""What stands on top of a network: from a feature map to one probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras import KerasTensor


POOLED = "pooled"
OUTPUT = "probability"


def binary_head(features: KerasTensor, *, head_units: int, dropout: float, seed: int) -> KerasTensor:
    """Global average pooling, dropout, a dense layer, and one sigmoid.

    Args:
        features: feature map [n, h, w, c].
        head_units: units of the dense layer; 0 for none.
        dropout: fraction of the pooled features dropped in training.
        seed: of dropout and of the initial weights.

    Returns:
        Probability of the positive class [n, 1], float32 in 0..1.
    """
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    hidden = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    if head_units:
        hidden = keras.layers.Dense(head_units, activation="relu", name="hidden")(hidden)
    return keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=OUTPUT)(hidden)
