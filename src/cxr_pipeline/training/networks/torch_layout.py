"""Weights of PyTorch networks, for backbones whose layers have the names of `keras.applications`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import keras
import numpy as np

_DENSENET_PARTS = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
# Parts of torchvision's old names, such as norm.1 for norm1.
_OLD_PART = re.compile(r"\b(norm|conv)\.([12])\b")
# Not weights: a counter of batch normalisation.
_COUNTER = "num_batches_tracked"
_EPSILON = 1e-5
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def _densenet121(layer: str) -> str:
    """Return PyTorch's name of a layer of DenseNet121, such as features.denseblock1.denselayer2.conv1."""
    if inner := re.fullmatch(r"conv(\d)_block(\d+)_(\d_\w+)", layer):
        return f"features.denseblock{int(inner[1]) - 1}.denselayer{inner[2]}.{_DENSENET_PARTS[inner[3]]}"
    if transition := re.fullmatch(r"pool(\d)_(bn|conv)", layer):
        return f"features.transition{int(transition[1]) - 1}.{'norm' if transition[2] == 'bn' else 'conv'}"
    return {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0", "bn": "features.norm5"}[layer]


def _resnet50(layer: str) -> str:
    """Return PyTorch's name of a layer of ResNet50, such as layer1.0.conv2."""
    if inner := re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer):
        block = f"layer{int(inner[1]) - 1}.{int(inner[2]) - 1}"
        if inner[3] == "0":
            return f"{block}.downsample.{0 if inner[4] == 'conv' else 1}"
        return f"{block}.{inner[4]}{inner[3]}"
    return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer]


_NAMES: dict[str, Callable[[str], str]] = {"densenet121": _densenet121, "resnet50v1_5": _resnet50}


def from_torch(backbone: keras.Model, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Assign the weights of a PyTorch network to a backbone, all or none, and return the names of unused tensors.

    The names may be those of torchvision, of its versions before 0.2, or begin with the name of a module around the
    network. Convolutions are [out, in, height, width]; a first convolution for one channel is applied to the mean of
    the three equal ones.

    Raises:
        ValueError: the tensors are not those of this network.

    Example:
        >>> from cxr_pipeline.training.networks.backbones import BACKBONES
        >>> image = keras.Input((32, 32, 1))
        >>> backbone = keras.Model(image, BACKBONES["densenet121"](image), name="densenet121")
        >>> from_torch(backbone, {"classifier.weight": np.zeros((14, 1024), "float32")})
        Traceback (most recent call last):
        ...
        ValueError: it has no tensor features.denseblock2.denselayer10.norm1.weight
    """
    if backbone.name not in _NAMES:
        raise ValueError(f"files in PyTorch's layout are read for {' and '.join(_NAMES)}, not {backbone.name}")
    layers = {_NAMES[backbone.name](layer.name): layer for layer in backbone.layers if layer.weights}
    named = _without_prefix(tensors, f"{max(layers, key=len)}.weight")
    values = {name: _values(name, layer, named) for name, layer in layers.items()}
    expected = {f"{name}.{part}" for name, layer in layers.items() for part in _parts(layer)}
    unused = sorted(named.keys() - expected)
    if unexpected := [name for name in unused if name.partition(".")[0] in {name.partition(".")[0] for name in layers}]:
        raise ValueError(f"it also has {unexpected[0]}, which {backbone.name} does not have")
    for name, layer in layers.items():
        layer.set_weights(values[name])
    return unused


def _without_prefix(tensors: Mapping[str, np.ndarray], known: str) -> dict[str, np.ndarray]:
    """Return the tensors by their names in torchvision; ``known`` is one of these names."""
    current = {_OLD_PART.sub(r"\1\2", name): values for name, values in tensors.items() if _COUNTER not in name}
    prefixes = {name.removesuffix(known) for name in current if name == known or name.endswith(f".{known}")}
    if len(prefixes) != 1:
        raise ValueError(f"it has {'several tensors' if prefixes else 'no tensor'} {known}")
    prefix = prefixes.pop()
    # Tensors outside the network, such as those of a second network, keep their names.
    return {name.removeprefix(prefix): values for name, values in current.items()}


def _parts(layer: keras.Layer) -> tuple[str, ...]:
    return _BATCH_NORM if isinstance(layer, keras.layers.BatchNormalization) else ("weight",)


def _values(name: str, layer: keras.Layer, tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the values of a layer in Keras' order and shapes."""
    missing = [f"{name}.{part}" for part in _parts(layer) if f"{name}.{part}" not in tensors]
    if missing:
        raise ValueError(f"it has no tensor {missing[0]}")
    values = [np.asarray(tensors[f"{name}.{part}"], np.float32) for part in _parts(layer)]
    if isinstance(layer, keras.layers.BatchNormalization):
        values[3] = values[3] + np.float32(_EPSILON - layer.epsilon)
    elif values[0].ndim == 4:
        kernel = values[0].transpose(2, 3, 1, 0)
        grey = kernel.shape[2] == 1 and layer.kernel.shape[2] == 3
        values = [np.repeat(kernel / 3, 3, axis=2) if grey else kernel]
    for value, weight in zip(values, layer.weights, strict=True):
        if value.shape != tuple(weight.shape):
            raise ValueError(f"{name} has the shape {value.shape}, expected {tuple(weight.shape)}")
    return values
