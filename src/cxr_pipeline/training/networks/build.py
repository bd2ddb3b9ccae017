"""Build a Keras model from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras

from cxr_pipeline.training.networks.backbones import (
    BACKBONES,
    GREY_TO_RGB,
    IMAGE_STANDARDISATION,
    NETWORKS,
    NORMALISATION,
    Normalisation,
)
from cxr_pipeline.training.networks.weight_files import load_weights, normalisation_of

POOLED = "pooled"
STANDARDISED = "pooled_standardisation"
OUTPUT = "probability"
# bfloat16 can represent neither 256 grey levels nor probabilities close to 0 and 1.
FLOAT32_LAYERS = ("image", IMAGE_STANDARDISATION, GREY_TO_RGB, NORMALISATION, "augmentation", STANDARDISED, OUTPUT)


def build_model(
    *,
    name: str,
    size: int,
    weights_file: Path | None = None,
    normalisation: Normalisation | None = None,
    n_outputs: int = 1,
    exclusive: bool = False,
    head_units: int = 0,
    dropout: float = 0.0,
    seed: int = 0,
    pooling: str = "average",
    cut: str | None = None,
) -> keras.Model:
    """Build a flat functional model that takes stored grey images.

    Normalisation is part of the graph: ``normalisation``, or else that of the whole model in a ``.keras`` file, or else
    the one for the backbone's ImageNet weights. With a weights file, the backbone is frozen, including its batch
    normalisation; without one, every layer is trainable.

    The model maps ``image`` [n, S, S, 1] (uint8 or float, 0..255), of at least `SMALLEST_SIZES`, to ``probability``
    [n, k] (float32, 0..1): of exclusive outputs a softmax, otherwise k sigmoids. ``head_units`` are the units of a
    dense layer before the outputs, 0 for none, and ``dropout`` is the fraction of the pooled features that is dropped
    in training. ``pooling`` is ``average``, of the last feature map, or ``multilevel``, see `_pool_levels`; maps below
    ``cut``, the layer from which the backbone will be fine-tuned (None for its default), are not pooled.
    """
    # Keras numbers unnamed layers over the whole process, but features and checkpoints need the same names in every
    # process.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 1), name="image")
    if weights_file is not None:
        normalisation = normalisation or normalisation_of(weights_file)
    features = BACKBONES[name](image, normalisation) if normalisation else NETWORKS[name](image)
    backbone = keras.Model(image, features, name=name)
    if pooling == "average":
        pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    else:
        pooled = _pool_levels(features, _levels(backbone, cut))
    output = _head(pooled, n_outputs=n_outputs, exclusive=exclusive, head_units=head_units, dropout=dropout, seed=seed)
    if weights_file is not None:
        load_weights(backbone, weights_file)
        for layer in backbone.layers:
            layer.trainable = not layer.weights
    return keras.Model(image, output, name=name)


def is_frozen(model: keras.Model) -> bool:
    """Return whether a model has frozen layers: those of a pretrained backbone."""
    return any(layer.weights and not layer.trainable for layer in model.layers)


def _levels(network: keras.Model, cut: str | None) -> list[keras.KerasTensor]:
    """Return the finer feature maps of a backbone that are pooled too, from the cut on."""
    if network.name not in BACKBONES:
        return []
    backbone, names = BACKBONES[network.name], [layer.name for layer in network.layers]
    first = names.index(cut if cut in names else backbone.cut)
    levels = (backbone.cut, *backbone.more_levels)
    return [network.get_layer(level).output for level in levels if first <= names.index(level) < len(names) - 1]


def _pool_levels(features: keras.KerasTensor, levels: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
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


def _head(
    pooled: keras.KerasTensor, *, n_outputs: int, exclusive: bool, head_units: int, dropout: float, seed: int
) -> keras.KerasTensor:
    """Map features [n, c] to probabilities [n, k], float32, in 0..1; see `build_model`."""
    hidden = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    if head_units:
        hidden = keras.layers.Dense(head_units, activation="relu", name="hidden")(hidden)
    activation = "softmax" if exclusive else "sigmoid"
    return keras.layers.Dense(n_outputs, activation=activation, dtype="float32", name=OUTPUT)(hidden)
