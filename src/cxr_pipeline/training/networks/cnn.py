"""Convolutional networks that are small enough to train from scratch.

They take stored grey images and standardise each image inside the graph, so that exposure and contrast have little
effect.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

# Keras' default, 0.99, averages over a few hundred steps, which may be the whole training run of a small task.
BATCH_NORMALIZATION_MOMENTUM = 0.9


def small_cnn(image: keras.KerasTensor) -> keras.KerasTensor:
    """Five convolutions with 170,000 parameters, for small images and the demo.

    Args:
        image: grey images [n, S, S, 1], float, in 0..255.

    Returns:
        Feature map [n, S/32, S/32, 128].
    """
    return _blocks(image, filters=(16, 24, 48, 96, 128), convolutions=1)


def cnn(image: keras.KerasTensor) -> keras.KerasTensor:
    """Ten convolutions with 3.4 million parameters.

    Args:
        image: grey images [n, S, S, 1], float, in 0..255.

    Returns:
        Feature map [n, S/32, S/32, 384].
    """
    return _blocks(image, filters=(32, 64, 128, 256, 384), convolutions=2)


def _blocks(image: keras.KerasTensor, *, filters: Sequence[int], convolutions: int) -> keras.KerasTensor:
    """Standardise each image, and apply blocks of convolutions with max pooling between them."""
    features = keras.layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, dtype="float32", name="image_standardisation"
    )(image)
    for block, n_filters in enumerate(filters, start=1):
        if block > 1:
            features = keras.layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(features)
        for step in range(1, convolutions + 1):
            strides = 2 if block == step == 1 else 1
            features = _convolution(features, n_filters, name=f"block{block}_conv{step}", strides=strides)
    return features


def _convolution(features: keras.KerasTensor, filters: int, *, name: str, strides: int) -> keras.KerasTensor:
    """3 x 3 convolution, batch normalisation, ReLU."""
    features = keras.layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(features)
    features = keras.layers.BatchNormalization(momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_bn")(features)
    return keras.layers.ReLU(name=f"{name}_relu")(features)
