"""From a name in the configuration to a Keras model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from cxr_pipeline.errors import UserError
from cxr_pipeline.models import backbones, networks
from cxr_pipeline.models.heads import OUTPUT, binary_head

if TYPE_CHECKING:
    from keras import KerasTensor, Model


NETWORKS: dict[str, Callable[[KerasTensor], KerasTensor]] = {
    "small_cnn": networks.small_cnn,
    "cnn": networks.cnn,
    "densenet121": backbones.densenet121,
}
LOADERS: dict[str, Callable[[Model, Path], None]] = {"densenet121": backbones.load_densenet121}

# bfloat16 has no room for 256 greys, nor for probabilities near 0 and 1.
FLOAT32_LAYERS = ("film", "film_standardisation", "imagenet_normalisation", "augmentation", OUTPUT)


def build_model(
    *, name: str, weights_file: Path | None, size: int, head_units: int, dropout: float, seed: int
) -> Model:
    """Build a flat functional model that takes grey films as they are stored.

    Normalisation is part of the graph. With a weights file the backbone is frozen, its batch normalisation
    included; without one every layer is trained.

    Args:
        name: ``small_cnn``, ``cnn`` or ``densenet121``.
        weights_file: pretrained weights of the backbone, or None.
        size: side S of a film in pixels.
        head_units: units of the dense layer before the output; 0 for none.
        dropout: fraction of the pooled features dropped in training.
        seed: of the initial weights and of dropout.

    Returns:
        Model from ``film`` [n, S, S, 1] (uint8 or float, 0..255) to the probability of the positive
        class [n, 1] (float32, 0..1).

    Raises:
        UserError: the weights do not fit the network, or the network takes none.
        ValueError: the name is unknown.
    """
    if name not in NETWORKS:
        raise ValueError(f"Expected a network among {', '.join(NETWORKS)}. Received: name={name!r}")
    if weights_file is not None and name not in LOADERS:
        raise UserError(
            f"model.weights is {weights_file}, but {name} takes no pretrained weights: set model.weights to none, "
            f"or model.name to one of {', '.join(LOADERS)}."
        )
    keras.utils.set_random_seed(seed)
    film = keras.Input((size, size, 1), name="film")
    output = binary_head(NETWORKS[name](film), head_units=head_units, dropout=dropout, seed=seed)
    model = keras.Model(film, output, name=name)
    if weights_file is not None:
        LOADERS[name](model, weights_file)
    return model
