"""Random changes of training images.

The same Keras layers are used in the graph of a network that is trained as a whole, and for numbered views of single
images, whose features are computed once. A view depends on the image, its number, the seed and the strengths, but not
on other images, so that cached features remain valid when images are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

STRENGTHS = ("rotation", "translation", "zoom", "brightness", "contrast", "noise", "flip")


def build_augmentation(augmentation: Mapping[str, Any]) -> keras.Sequential:
    """Build Keras layers that change grey images [n, S, S, 1] (0..255) during training only; results are float32.

    ``augmentation`` has the ``seed`` and the strengths by name: the largest angle in degrees (``rotation``), shift as a
    fraction of the side (``translation``), change of scale (``zoom``), shift of grey (``brightness``) and change of
    contrast as fractions, the standard deviation of Gaussian ``noise`` as a fraction of the grey range, and whether to
    mirror half of the images left to right (``flip``). Areas from outside the image are black.
    """
    rotation, translation, zoom, brightness, contrast, noise, flip = (augmentation[name] for name in STRENGTHS)
    layers = keras.layers
    border: dict[str, Any] = {"fill_mode": "constant", "fill_value": 0.0}
    grey: dict[str, Any] = {"value_range": (0.0, 1.0)}
    steps: list[tuple[float, Any, dict[str, Any]]] = [
        (flip, layers.RandomFlip, {"mode": "horizontal"}),
        (rotation, layers.RandomRotation, {"factor": rotation / 360, **border}),
        (translation, layers.RandomTranslation, {"height_factor": translation, "width_factor": translation, **border}),
        (zoom, layers.RandomZoom, {"height_factor": zoom, **border}),
        (contrast, layers.RandomContrast, {"factor": contrast, **grey}),
        (brightness, layers.RandomBrightness, {"factor": brightness, **grey}),
        (noise, layers.GaussianNoise, {"stddev": noise}),
    ]
    # The seed of a layer depends on its position here, so that disabling one does not affect the others.
    changes = [
        layer(**options, seed=augmentation["seed"] + position, dtype="float32")
        for position, (strength, layer, options) in enumerate(steps)
        if strength
    ]
    to_unit = layers.Rescaling(1 / 255, dtype="float32")
    to_grey = layers.Rescaling(255.0, dtype="float32")
    return keras.Sequential([to_unit, *changes, to_grey], name="augmentation")


class AugmentedViews:
    """Numbered views of images, augmented as by `build_augmentation`; view 0 is the image itself."""

    def __init__(self, augmentation: Mapping[str, Any]) -> None:
        self._seed = int(augmentation["seed"])
        layers = build_augmentation(augmentation)
        states = [variable for variable in layers.variables if variable.path.endswith("seed_generator_state")]
        self._n_draws = len(states)

        @tf.function  # type: ignore[untyped-decorator]
        def change(image: Any, seeds: Any) -> Any:
            for index, state in enumerate(states):
                state.assign(tf.stack([tf.cast(seeds[index], state.dtype), tf.zeros((), state.dtype)]))
            return layers(image[tf.newaxis], training=True)[0]

        self._change = change

    def render(self, images: np.ndarray, sha256s: Sequence[str], views: Sequence[int]) -> np.ndarray:
        """Render one view of each grey image [n, S, S], uint8, with its digest and the number of its view.

        The result is float32 [n, S, S, 1], 0..255 except for the noise.
        """
        rendered = images[..., np.newaxis].astype(np.float32)
        for index, (sha256, view) in enumerate(zip(sha256s, views, strict=True)):
            if view and self._n_draws:
                entropy = np.random.SeedSequence([self._seed, int(view), int(sha256, 16)])
                seeds = entropy.generate_state(self._n_draws).astype(np.int64)
                rendered[index] = self._change(rendered[index], seeds).numpy()
        return rendered


def preview(images: np.ndarray, *, sha256s: Sequence[str], views: int, augmentation: Mapping[str, Any]) -> np.ndarray:
    """Render the first augmented views of grey images [n, S, S], uint8, with given digests: [n, views, S, S], uint8."""
    augmented = AugmentedViews(augmentation)
    rendered = [augmented.render(images, sha256s, [view] * len(images))[..., 0] for view in range(1, views + 1)]
    stacked: np.ndarray = np.clip(np.rint(np.stack(rendered, axis=1)), 0, 255)
    return stacked.astype(np.uint8)
