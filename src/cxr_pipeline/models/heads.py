"""What stands on top of a network: from a feature map to probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras import KerasTensor


POOLED = "pooled"
OUTPUT = "probability"


def head(
    features: KerasTensor, *, n_outputs: int, exclusive: bool, head_units: int, dropout: float, seed: int
) -> KerasTensor:
    """Global average pooling, dropout, a dense layer, and the outputs.

    Args:
        features: feature map [n, h, w, c].
        n_outputs: classes that get a probability, k.
        exclusive: a softmax over the outputs, which sum to 1; otherwise a sigmoid for each.
        head_units: units of the dense layer; 0 for none.
        dropout: fraction of the pooled features dropped in training.
        seed: of dropout and of the initial weights.

    Returns:
        Probabilities [n, k], float32 in 0..1.
    """
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    hidden = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    if head_units:
        hidden = keras.layers.Dense(head_units, activation="relu", name="hidden")(hidden)
    activation = "softmax" if exclusive else "sigmoid"
    return keras.layers.Dense(n_outputs, activation=activation, dtype="float32", name=OUTPUT)(hidden)
