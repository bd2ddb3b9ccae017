"""Test-time augmentation: the output of a network is averaged over the image and slightly changed views of it.

The views are part of the graph, so that every user of a registered model computes the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

NETWORK = "network"
# Largest changes, as a fraction of those in training.
STRENGTH = 0.5


def with_views(model: keras.Model, n_views: int, augmentation: Mapping[str, Any], seed: int) -> keras.Model:
    """Return a model whose output is the mean over the image and ``n_views`` - 1 changed views; see `draw_views`.

    Without further views, this is the model itself.
    """
    if n_views == 1:
        return model
    ops, size = keras.ops, int(model.input_shape[1])
    image = keras.Input(model.input_shape[1:], name="image")
    levels = ops.cast(image, "float32")
    views = [levels]
    for view in draw_views(n_views - 1, augmentation, seed):
        moved = ops.image.affine_transform(
            levels, affine_matrix(view, size), interpolation="bilinear", fill_mode="constant", fill_value=0.0
        )
        middle = 127.5
        changed = (moved - middle) * (1 + view["contrast"]) + middle + 255 * view["brightness"]
        views.append(ops.clip(changed, 0.0, 255.0))
    network = keras.Model(model.inputs[0], model.outputs[0], name=NETWORK)
    mean = keras.layers.Average(dtype="float32", name="mean_of_views")([network(view) for view in views])
    return keras.Model(image, mean, name=model.name)


def network_of(model: keras.Model) -> keras.Model:
    """Return the network that a model applies to each view; of a model without views, the model itself."""
    return next((layer for layer in model.layers if layer.name == NETWORK), model)


def draw_views(n: int, augmentation: Mapping[str, Any], seed: int) -> list[dict[str, float]]:
    """Draw the changes of ``n`` views: pairs of opposite changes, uniform within ``STRENGTH`` of those in training.

    Each has an angle in degrees (``rotation``), shifts ``across`` and ``down`` as fractions of the side, a relative
    change of scale (``zoom``) and of ``contrast``, and a shift of ``brightness`` as a fraction of the grey range.
    """
    limits = {name: augmentation[name] * STRENGTH for name in ("rotation", "zoom", "brightness", "contrast")}
    limits |= dict.fromkeys(("across", "down"), augmentation["translation"] * STRENGTH)
    rng, views = np.random.default_rng(seed), list[dict[str, float]]()
    while len(views) < n:
        drawn = {name: float(rng.uniform(-limit, limit)) for name, limit in limits.items()}
        views += [drawn, {name: -value for name, value in drawn.items()}]
    return views[:n]


def affine_matrix(view: Mapping[str, float], size: int) -> np.ndarray:
    """Return the transformation from positions in the view to positions in an image of ``size`` pixels, float32 [8]."""
    angle, scale = np.deg2rad(view["rotation"]), 1 + view["zoom"]
    cosine, sine, centre = np.cos(angle) * scale, np.sin(angle) * scale, (size - 1) / 2
    across = centre - cosine * centre + sine * centre + view["across"] * size
    down = centre - sine * centre - cosine * centre + view["down"] * size
    return np.array([cosine, -sine, across, sine, cosine, down, 0, 0], np.float32)
