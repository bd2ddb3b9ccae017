"""What stands on top of a network: from its feature maps to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras import KerasTensor


POOLED = "pooled"
STANDARDISED = "pooled_standardisation"
OUTPUT = "probability"


def pool(features: KerasTensor) -> KerasTensor:
    """Global average pooling of the last feature map [n, h, w, c], to [n, c]."""
    return keras.layers.GlobalAveragePooling2D(name=POOLED)(features)


def pool_levels(features: KerasTensor, levels: Sequence[KerasTensor]) -> KerasTensor:
    """Averages and maxima of the last feature map, and averages of finer ones below it, all standardised.

    A finding of a few pixels is lost in the average of the last map; finer maps and the maximum keep it. Features of
    different levels differ in scale, so that each is brought to mean 0 and variance 1 over the training images.

    Args:
        features: the last feature map [n, h, w, c].
        levels: feature maps below it.

    Returns:
        Pooled features [n, 2 c + channels of the levels].

    References:
        Hariharan et al., "Hypercolumns for Object Segmentation and Fine-grained Localization", CVPR 2015,
        arXiv:1411.5752, for features of several levels.
    """
    parts = [
        keras.layers.GlobalAveragePooling2D(name="pooled_average")(features),
        keras.layers.GlobalMaxPooling2D(name="pooled_maximum")(features),
        *(
            keras.layers.GlobalAveragePooling2D(name=f"pooled_level_{place}")(level)
            for place, level in enumerate(levels)
        ),
    ]
    pooled = keras.layers.Concatenate(name=POOLED)(parts)
    return keras.layers.BatchNormalization(center=False, scale=False, momentum=0.95, name=STANDARDISED)(pooled)


def head(
    pooled: KerasTensor, *, n_outputs: int, exclusive: bool, head_units: int, dropout: float, seed: int
) -> KerasTensor:
    """Dropout, a dense layer, and the outputs.

    Args:
        pooled: features [n, c].
        n_outputs: classes that get a probability, k.
        exclusive: a softmax over the outputs, which sum to 1; otherwise a sigmoid for each.
        head_units: units of the dense layer; 0 for none.
        dropout: fraction of the pooled features dropped in training.
        seed: of dropout and of the initial weights.

    Returns:
        Probabilities [n, k], float32 in 0..1.
    """
    hidden = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    if head_units:
        hidden = keras.layers.Dense(head_units, activation="relu", name="hidden")(hidden)
    activation = "softmax" if exclusive else "sigmoid"
    return keras.layers.Dense(n_outputs, activation=activation, dtype="float32", name=OUTPUT)(hidden)
