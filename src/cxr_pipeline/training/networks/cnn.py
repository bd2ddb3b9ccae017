"""Convolutional networks that are small enough to be trained from scratch.

They take grey images as they are stored and standardise each one inside the graph, so that exposure and
contrast of the scanner matter little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras import KerasTensor


# 0.99, Keras' default, needs a thousand steps to forget its start; a small task has a few hundred.
BATCH_NORMALIZATION_MOMENTUM = 0.9


def small_cnn(image: KerasTensor) -> KerasTensor:
    """Five thin convolutions, 170,000 parameters: for trials, small images and the demo.

    Args:
        image: grey images [n, S, S, 1], float in 0..255.

    Returns:
        Feature map [n, S/32, S/32, 128].
    """
    features = _convolution(_standardise(image), 16, name="block1_conv1", strides=2)
    for block, units in enumerate((24, 48, 96), start=2):
        features = keras.layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(features)
        features = _convolution(features, units, name=f"block{block}_conv1")
    features = keras.layers.MaxPooling2D(2, padding="same", name="block4_pool")(features)
    return _convolution(features, 128, name="block5_conv1")


def cnn(image: KerasTensor) -> KerasTensor:
    """Ten convolutions in five blocks, 3.4 million parameters.

    Args:
        image: grey images [n, S, S, 1], float in 0..255.

    Returns:
        Feature map [n, S/32, S/32, 384].
    """
    features = _convolution(_standardise(image), 32, name="block1_conv1", strides=2)
    features = _convolution(features, 32, name="block1_conv2")
    return _blocks(features, units=(64, 128, 256, 384))


def _blocks(features: KerasTensor, *, units: Sequence[int]) -> KerasTensor:
    """Max-pooling and two convolutions for each entry of ``units``."""
    for block, n in enumerate(units, start=2):
        features = keras.layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(features)
        for step in (1, 2):
            features = _convolution(features, n, name=f"block{block}_conv{step}")
    return features


def _standardise(image: KerasTensor) -> KerasTensor:
    """Each image to mean 0 and standard deviation 1."""
    return keras.layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, dtype="float32", name="image_standardisation"
    )(image)


def _convolution(features: KerasTensor, units: int, *, name: str, strides: int = 1) -> KerasTensor:
    """3 x 3 convolution, batch normalisation, ReLU."""
    features = keras.layers.Conv2D(
        units, 3, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(features)
    features = keras.layers.BatchNormalization(momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_bn")(features)
    return keras.layers.ReLU(name=f"{name}_relu")(features)
