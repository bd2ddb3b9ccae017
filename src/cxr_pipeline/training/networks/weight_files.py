"""Read files of pretrained weights into a backbone."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import keras
import numpy as np

from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.training.networks import vit
from cxr_pipeline.training.networks.backbones import NORMALISATION, Normalisation
from cxr_pipeline.training.networks.ensemble import layer_of, members_of
from cxr_pipeline.training.networks.torch_layout import from_torch
from cxr_pipeline.training.networks.views import network_of

# Networks with a layout of their own.
LOADERS = {vit.NAME: vit.load_transformer}

logger = logging.getLogger(__name__)


def load_weights(backbone: keras.Model, file: Path) -> None:
    """Load a weights file into a backbone without its top; the weights of a top in the file are not used.

    The file is one of Keras 3 (``.weights.h5``) or earlier (``.h5``), one in PyTorch's layout (``.safetensors``, see
    `from_torch`), or a whole model of this package (``.keras``), of whose members the first is used.

    `UserError` is raised if the file is damaged, has the weights of another network, or values that are not finite
    numbers.
    """
    remedy = f"Give a file with the weights of {backbone.name}, or set model.weights to imagenet or none."
    readers = {".safetensors": LOADERS.get(backbone.name, _load_safetensors), ".keras": _load_model}
    # The exception contains the same message as the warnings.
    with explain_damage(f"model.weights: {file}", remedy), warnings.catch_warnings(action="ignore"):
        unused = readers.get(file.suffix, _load_hdf5)(backbone, file)
        if not all(np.isfinite(values).all() for values in backbone.get_weights()):
            raise ValueError("some values are not finite numbers")
    if unused:
        logger.info("%s contains the top of a network, which is not used: %s", file, ", ".join(unused))


def normalisation_of(file: Path) -> Normalisation | None:
    """Return the normalisation in a whole model; None for files that have none."""
    if file.suffix != ".keras":
        return None
    with explain_damage(f"model.weights: {file}", "Give another file, or set model.weights to imagenet or none."):
        layers = {layer.name: layer for layer in network_of(_read_model(file)).layers}
    # Earlier models have the second name.
    layer = layers.get(NORMALISATION) or layers.get("imagenet_normalisation")
    return None if layer is None else (layer.scale, layer.offset)


def _load_hdf5(backbone: keras.Model, file: Path) -> list[str]:
    names = {layer.name for layer in backbone.layers if layer.weights}
    saved = _saved_layers(file)
    top = sorted(name for name, n_dimensions in saved.items() if n_dimensions == 2)
    # Keras 3 ignores surplus layers; in earlier files, the layers must have the names of the backbone for that.
    by_name = bool(top) and names <= saved.keys() and not file.name.endswith(".weights.h5")
    backbone.load_weights(file, **({"by_name": True} if by_name else {}))
    if len(saved) - len(top) > len(names):
        raise ValueError(f"it contains {len(saved)} layers with weights, expected {len(names)}")
    return top


def _saved_layers(file: Path) -> dict[str, int]:
    """Return the layers with weights in a file, with the largest number of dimensions of their weights."""
    import h5py  # type: ignore[import-untyped]

    layers: dict[str, int] = {}

    def note(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in path:
            layer = path.partition("/")[0]
            layers[layer] = max(layers.get(layer, 0), item.ndim)

    with h5py.File(file) as content:
        root = next((name for name in ("layers", "model_weights") if name in content), "/")
        content[root].visititems(note)
    return layers


def _load_safetensors(backbone: keras.Model, file: Path) -> list[str]:
    from safetensors.numpy import load_file

    return from_torch(backbone, load_file(file))


def _load_model(backbone: keras.Model, file: Path) -> list[str]:
    model = _read_model(file)
    if model.name != backbone.name:
        raise ValueError(f"it is a {model.name}")
    member = members_of(network_of(model))[0]
    names = {layer.name for layer in backbone.layers}
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(layer_of(member, layer.name).get_weights())
    return [layer.name for layer in member.layers if layer.weights and layer.name not in names]


def _read_model(file: Path) -> keras.Model:
    return keras.models.load_model(file, compile=False, safe_mode=True)
