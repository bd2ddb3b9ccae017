"""The top of a network: from feature maps to probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import keras

POOLED = "pooled"
STANDARDISED = "pooled_standardisation"
OUTPUT = "probability"


def pool_levels(features: keras.KerasTensor, levels: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Pool averages and maxima of the last feature map and averages of finer ones, and standardise them.

    A finding of a few pixels is lost in the average of the last map, but not in finer maps and the maximum (Hariharan
    et al., "Hypercolumns for Object Segmentation and Fine-grained Localization", CVPR 2015, arXiv:1411.5752). Features
    of different levels differ in scale, so each is standardised to mean 0 and variance 1 over the training images.
    There are 2 c features of the last feature map [n, h, w, c], and one for each channel of the others.
    """
    layers = keras.layers
    average = layers.GlobalAveragePooling2D(name="pooled_average")(features)
    maximum = layers.GlobalMaxPooling2D(name="pooled_maximum")(features)
    finer = [layers.GlobalAveragePooling2D(name=f"pooled_level_{n}")(level) for n, level in enumerate(levels)]
    pooled = layers.Concatenate(name=POOLED)([average, maximum, *finer])
    return layers.BatchNormalization(center=False, scale=False, momentum=0.95, name=STANDARDISED)(pooled)


def head(
    pooled: keras.KerasTensor, *, n_outputs: int, exclusive: bool, head_units: int, dropout: float, seed: int
) -> keras.KerasTensor:
    """Map features [n, c] to probabilities [n, k], float32, in 0..1; see `build_model`."""
    hidden = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    if head_units:
        hidden = keras.layers.Dense(head_units, activation="relu", name="hidden")(hidden)
    activation = "softmax" if exclusive else "sigmoid"
    return keras.layers.Dense(n_outputs, activation=activation, dtype="float32", name=OUTPUT)(hidden)
