"""Backbones from ``keras.applications``, laid flat into the graph of the model that uses them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from cxr_pipeline.errors import UserError

if TYPE_CHECKING:
    from keras import KerasTensor, Model


SMALLEST_FILM = 32
# Mean and standard deviation of the red, green and blue of ImageNet, in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def densenet121(film: KerasTensor) -> KerasTensor:
    """DenseNet-121 without its classifier.

    Args:
        film: grey films [n, S, S, 1], float in 0..255.

    Returns:
        Feature map [n, S/32, S/32, 1024].

    Raises:
        UserError: the films are smaller than 32 pixels.

    References:
        Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993.
    """
    size = film.shape[1]
    if size < SMALLEST_FILM:
        raise UserError(
            f"densenet121 needs films of at least {SMALLEST_FILM} pixels a side, resolution.size is {size}: "
            "raise resolution.size, or set model.name to small_cnn."
        )
    rgb = keras.layers.Concatenate(name="grey_to_rgb")([film, film, film])
    normalised = keras.layers.Rescaling(
        scale=[1 / (255 * std) for std in IMAGENET_STD],
        offset=[-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)],
        dtype="float32",
        name="imagenet_normalisation",
    )(rgb)
    backbone = keras.applications.DenseNet121(include_top=False, weights=None, input_tensor=normalised)
    return backbone.output


def load_densenet121(model: Model, weights_file: Path) -> None:
    """Put pretrained weights into the backbone of ``model`` and freeze it.

    Args:
        model: flat model whose backbone is `densenet121`.
        weights_file: weights of ``keras.applications.DenseNet121(include_top=False)``, Keras 3's
            ``.weights.h5`` or the older ``.h5``.

    Raises:
        UserError: the file cannot be read, or holds the weights of another network.
    """
    # Older .h5 files match layers by position, which the layers around the backbone would shift.
    bare = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(*model.input_shape[1:3], 3))
    try:
        _load_every_weight(bare, weights_file)
    except (ValueError, OSError, KeyError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"model.weights: {weights_file} does not hold the weights of densenet121 without its top ({reason}); "
            "give another file, or set model.weights to imagenet or none."
        ) from error
    for layer in bare.layers:
        target = model.get_layer(layer.name) if layer.weights else None
        if target is not None:
            target.set_weights(layer.get_weights())
            target.trainable = False


def _load_every_weight(network: Model, weights_file: Path) -> None:
    """Load weights; Keras only warns of those that it finds no place for, and leaves them as they were.

    Raises:
        ValueError: a weight is not in the file.
    """
    network.set_weights([np.full_like(weight, np.nan) for weight in network.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network.load_weights(str(weights_file))
    absent = [variable.path for variable in network.weights if np.isnan(variable.numpy()).any()]
    if absent:
        raise ValueError(f"{len(absent)} of {len(network.weights)} weights are absent, such as {absent[0]}")
