"""Convolutional networks that are small enough to train from scratch.

They take stored grey images and standardise each image inside the graph, so that exposure and contrast have little
effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import keras

# Keras' default, 0.99, averages over a few hundred steps, which may be the whole training run of a small task.
BATCH_NORMALIZATION_MOMENTUM = 0.9


def blocks(image: keras.KerasTensor, *, filters: Sequence[int], convolutions: int) -> keras.KerasTensor:
    """Apply blocks of 3 x 3 convolutions, batch normalisation and ReLU with max pooling between them.

    Grey images [n, S, S, 1], in 0..255, become a feature map [n, S/32, S/32, c] after five blocks.
    """
    layers = keras.layers
    features = layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, dtype="float32", name="image_standardisation"
    )(image)
    for block, n_filters in enumerate(filters, start=1):
        if block > 1:
            features = layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(features)
        for step in range(1, convolutions + 1):
            name, strides = f"block{block}_conv{step}", 2 if block == step == 1 else 1
            options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
            features = layers.Conv2D(n_filters, 3, strides=strides, name=name, **options)(features)
            features = layers.BatchNormalization(momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_bn")(features)
            features = layers.ReLU(name=f"{name}_relu")(features)
    return features


NETWORKS = {
    # 170,000 parameters, for small images and the demo.
    "small_cnn": partial(blocks, filters=(16, 24, 48, 96, 128), convolutions=1),
    # 3.4 million parameters.
    "cnn": partial(blocks, filters=(32, 64, 128, 256, 384), convolutions=2),
}
