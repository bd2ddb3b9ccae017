"""Random changes of training images.

Two ways to the same Keras layers: in the graph of a network while it is trained, where each batch draws anew;
and as numbered views of single images for a frozen backbone, whose features are computed once. A view depends
on the image, the number of the view, the seed and the strengths, never on the images beside it, so that features
computed for some images stay valid when more are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from keras import Sequential


STRENGTHS = ("rotation", "translation", "zoom", "brightness", "contrast", "noise", "flip")


def build_augmentation(
    *,
    rotation: float,
    translation: float,
    zoom: float,
    brightness: float,
    contrast: float,
    noise: float,
    flip: bool,
    seed: int,
) -> Sequential:
    """Keras layers that change images in training and pass them unchanged otherwise.

    Args:
        rotation: largest angle in degrees.
        translation: largest shift as a fraction of the side.
        zoom: largest change of scale as a fraction.
        brightness: largest shift of grey as a fraction of the grey range.
        contrast: largest change of contrast as a fraction.
        noise: standard deviation of Gaussian noise as a fraction of the grey range.
        flip: mirror half of the images left and right.
        seed: of every draw.

    Returns:
        Model from grey images [n, S, S, 1] (0..255) to the same, float32. What turns in from outside is black.
    """
    layers = keras.layers
    border: dict[str, object] = {"fill_mode": "constant", "fill_value": 0.0}
    grey: dict[str, object] = {"value_range": (0.0, 1.0)}
    # A layer's seed comes from its place here, so that switching one off leaves the draws of the others.
    steps: tuple[tuple[float, Callable[[dict[str, Any]], Any]], ...] = (
        (flip, lambda s: layers.RandomFlip("horizontal", **s)),
        (rotation, lambda s: layers.RandomRotation(rotation / 360, **border, **s)),
        (translation, lambda s: layers.RandomTranslation(translation, translation, **border, **s)),
        (zoom, lambda s: layers.RandomZoom(zoom, **border, **s)),
        (contrast, lambda s: layers.RandomContrast(contrast, **grey, **s)),
        (brightness, lambda s: layers.RandomBrightness(brightness, **grey, **s)),
        (noise, lambda s: layers.GaussianNoise(noise, **s)),
    )
    changes = [
        build({"seed": seed + place, "dtype": "float32"}) for place, (strength, build) in enumerate(steps) if strength
    ]
    to_unit = layers.Rescaling(1 / 255, dtype="float32")
    to_grey = layers.Rescaling(255.0, dtype="float32")
    return keras.Sequential([to_unit, *changes, to_grey], name="augmentation")


class AugmentedViews:
    """Numbered views of images; view 0 is the image itself.

    Args:
        augmentation: the strengths and the seed of `build_augmentation`, by name.
    """

    def __init__(self, augmentation: Mapping[str, Any]) -> None:
        self._seed = int(augmentation["seed"])
        layers = build_augmentation(**{name: augmentation[name] for name in (*STRENGTHS, "seed")})
        states = [variable for variable in layers.variables if variable.path.endswith("seed_generator_state")]
        self._n_draws = len(states)

        @tf.function  # type: ignore[untyped-decorator]
        def change(image: Any, seeds: Any) -> Any:
            for place, state in enumerate(states):
                state.assign(tf.stack([tf.cast(seeds[place], state.dtype), tf.zeros((), state.dtype)]))
            return layers(image[tf.newaxis], training=True)[0]

        self._change = change

    def render(self, images: np.ndarray, sha256s: Sequence[str], views: Sequence[int]) -> np.ndarray:
        """Change each image as its content and the number of its view say.

        Args:
            images: grey images [n, S, S], uint8.
            sha256s: their digests, n.
            views: the number of the view of each image, n; 0 leaves it as it is.

        Returns:
            Images [n, S, S, 1], float32, 0..255 but for the noise.
        """
        rendered = images[..., np.newaxis].astype(np.float32)
        for place, (sha256, view) in enumerate(zip(sha256s, views, strict=True)):
            if view and self._n_draws:
                entropy = np.random.SeedSequence([self._seed, int(view), int(sha256, 16)])
                seeds = entropy.generate_state(self._n_draws).astype(np.int64)
                rendered[place] = self._change(rendered[place], seeds).numpy()
        return rendered


def preview(images: np.ndarray, *, sha256s: Sequence[str], views: int, augmentation: Mapping[str, Any]) -> np.ndarray:
    """Show what augmentation does: the first views that a frozen backbone would see of each image.

    Args:
        images: grey images [n, S, S], uint8.
        sha256s: their digests, n.
        views: how many augmented views to draw of each image.
        augmentation: the strengths and the seed of `build_augmentation`, by name.

    Returns:
        Images [n, views, S, S], uint8.
    """
    augmented = AugmentedViews(augmentation)
    drawn = [augmented.render(images, sha256s, [view] * len(images))[..., 0] for view in range(1, views + 1)]
    stacked: np.ndarray = np.clip(np.rint(np.stack(drawn, axis=1)), 0, 255)
    return stacked.astype(np.uint8)
