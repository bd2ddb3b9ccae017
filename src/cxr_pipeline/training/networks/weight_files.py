"""Weights from Keras' HDF5 files into layers, with a word about the first layer that does not fit.

Keras 3's ``.weights.h5`` names a layer by its class and its place among the layers of that class, the older ``.h5``
by its place among all layers with weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import h5py  # type: ignore[import-untyped]
import numpy as np

from cxr_pipeline.common.errors import UserError

if TYPE_CHECKING:
    from keras import Layer

    Saved = tuple[str, list[np.ndarray]]


def load_weights(layers: Sequence[Layer], file: Path, *, network: str) -> None:
    """Put saved weights into layers: into all of them, or, where one does not fit, into none.

    Args:
        layers: those of a network that have weights, in its order.
        file: ``.weights.h5`` or the older ``.h5``.
        network: what the layers are, for the message.

    Raises:
        UserError: the file cannot be read, lacks a layer, has one too many, or a layer of another shape.
    """
    try:
        with h5py.File(file) as content:
            saved = _by_position(content) if "layer_names" in content.attrs else _by_class(content, layers)
    except (OSError, KeyError, RuntimeError) as error:
        raise _damaged(file, error) from error
    misfit = next(filter(None, (_misfit(*pair) for pair in zip_longest(layers, saved))), None)
    if misfit:
        raise UserError(
            f"model.weights: {file} does not hold the weights of {network}: {misfit}. "
            "Give another file, or set model.weights to imagenet or none."
        )
    for layer, (_, values) in zip(layers, saved, strict=True):
        layer.set_weights(values)


def check_readable(file: Path) -> None:
    """Make sure, without reading it, that a file is HDF5 and as long as it says.

    Raises:
        UserError: it is not.
    """
    try:
        h5py.File(file).close()
    except OSError as error:
        raise _damaged(file, error) from error


def _by_position(content: h5py.File) -> list[Saved]:
    """Layers with weights, as the older format lists them."""
    names = [_text(name) for name in content.attrs["layer_names"]]
    saved = [
        (name, [content[name][_text(weight)][()] for weight in content[name].attrs["weight_names"]]) for name in names
    ]
    return [(name, values) for name, values in saved if values]


def _by_class(content: h5py.File, layers: Sequence[Layer]) -> list[Saved]:
    """What Keras 3's format holds for each layer, nothing where it is absent; then what no layer asks for."""
    counts: Counter[str] = Counter()
    wanted = []
    for layer in layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        wanted.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
    groups = content["layers"]
    others = [name for name in groups if name not in wanted and _values(groups, name)]
    return [(name, _values(groups, name)) for name in (*wanted, *others)]


def _values(groups: h5py.Group, name: str) -> list[np.ndarray]:
    weights = groups.get(f"{name}/vars", {})
    return [weights[str(place)][()] for place in range(len(weights))]


def _misfit(layer: Layer | None, saved: Saved | None) -> str | None:
    """What is wrong with one layer, or None."""
    name, values = saved or ("", [])
    if layer is None:
        return f"it also holds a layer {name}, which the network has not"
    if not values:
        return f"its layer {layer.name} is absent"
    expected = [tuple(weight.shape) for weight in layer.weights]
    found = [value.shape for value in values]
    if expected == found:
        return None
    return f"of its layer {layer.name} the shapes are {_shapes(expected)}, found {_shapes(found)} (there named {name})"


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " ".join(str(shape) for shape in shapes)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _damaged(file: Path, error: Exception) -> UserError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return UserError(
        f"model.weights: {file} is damaged or no file of weights ({reason}). Put a whole one in its place, "
        "give another file, or set model.weights to none."
    )
