"""From a name in the configuration to a Keras model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks import cnn
from cxr_pipeline.training.networks.backbones import BACKBONES, GREY_TO_RGB, NORMALISATION
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED, STANDARDISED, head, pool, pool_levels
from cxr_pipeline.training.networks.weight_files import load_weights

if TYPE_CHECKING:
    from keras import KerasTensor, Model


NETWORKS: dict[str, Callable[[KerasTensor], KerasTensor]] = {
    "small_cnn": cnn.small_cnn,
    "cnn": cnn.cnn,
    **BACKBONES,
}

# bfloat16 has no room for 256 greys, nor for probabilities near 0 and 1.
FLOAT32_LAYERS = ("image", "image_standardisation", GREY_TO_RGB, NORMALISATION, "augmentation", STANDARDISED, OUTPUT)


def build_model(
    *,
    name: str,
    weights_file: Path | None,
    size: int,
    n_outputs: int,
    exclusive: bool,
    head_units: int,
    dropout: float,
    seed: int,
    pooling: str = "average",
    cut: str | None = None,
) -> Model:
    """Build a flat functional model that takes grey images as they are stored.

    Normalisation is part of the graph. With a weights file the backbone is frozen, its batch normalisation
    included; without one every layer is trained. Layers have the same names in every process: Keras starts
    to count those it names itself anew, for which its session is cleared.

    Args:
        name: one of ``cxr_pipeline.training.networks.architectures.ARCHITECTURES``.
        weights_file: pretrained weights of the backbone without its top, or None.
        size: side S of an image in pixels.
        n_outputs: classes that get a probability, k.
        exclusive: exactly one of the classes is true of an image: a softmax, otherwise k sigmoids.
        head_units: units of the dense layer before the outputs; 0 for none.
        dropout: fraction of the pooled features dropped in training.
        seed: of the initial weights and of dropout.
        pooling: ``average`` of the last feature map, or ``multilevel``, see `pool_levels`.
        cut: layer from which the backbone will be fine-tuned, None for its own; maps below it are not pooled.

    Returns:
        Model from ``image`` [n, S, S, 1] (uint8 or float, 0..255) to ``probability`` [n, k] (float32, 0..1).

    Raises:
        UserError: the weights do not fit the network, the network takes none, or the images are too small for it.
        ValueError: the name is unknown.
    """
    if name not in NETWORKS:
        raise ValueError(f"Expected a network among {', '.join(NETWORKS)}. Received: name={name!r}")
    if weights_file is not None and name not in BACKBONES:
        raise UserError(
            f"model.weights is {weights_file}, but {name} takes no pretrained weights: set model.weights to none, "
            f"or model.name to one of {', '.join(BACKBONES)}."
        )
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 1), name="image")
    features = NETWORKS[name](image)
    pooled = pool(features) if pooling == "average" else pool_levels(features, _levels(image, features, name, cut))
    output = head(pooled, n_outputs=n_outputs, exclusive=exclusive, head_units=head_units, dropout=dropout, seed=seed)
    model = keras.Model(image, output, name=name)
    if weights_file is not None:
        load_backbone(model, weights_file)
    return model


def _levels(image: KerasTensor, features: KerasTensor, name: str, cut: str | None) -> list[KerasTensor]:
    """The finer feature maps of a backbone that are pooled too: none of a network that is no backbone."""
    if name not in BACKBONES:
        return []
    graph, backbone = keras.Model(image, features), BACKBONES[name]
    names = [layer.name for layer in graph.layers]
    first = names.index(cut) if cut in names else names.index(backbone.cut)
    return [graph.get_layer(level).output for level in backbone.levels if names.index(level) >= first]


def load_backbone(model: Model, weights_file: Path) -> None:
    """Put pretrained weights into the backbone of a model and freeze it.

    Args:
        model: flat model on a backbone.
        weights_file: weights of the same ``keras.applications`` network with ``include_top=False``, Keras 3's
            ``.weights.h5`` or the older ``.h5``.

    Raises:
        UserError: the file cannot be read, or holds the weights of another network.
    """
    below_head = model.layers[: model.layers.index(model.get_layer(POOLED))]
    layers = [layer for layer in below_head if layer.weights]
    load_weights(layers, weights_file, network=f"{model.name} without its top")
    for layer in layers:
        layer.trainable = False
