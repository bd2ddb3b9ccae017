"""The order of the training images, and the ``tf.data`` pipeline that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from cxr_pipeline.training.features import Entry, Images


@dataclass(frozen=True)
class Inputs:
    """Inputs of a network, read batch by batch.

    Args:
        read: maps images and views to inputs [b, *shape].
        shape: shape of one input.
        dtype: type of the inputs, such as ``"uint8"``.
    """

    read: Callable[[Sequence[Entry]], np.ndarray]
    shape: tuple[int, ...]
    dtype: str


def image_inputs(images: Images, shape: tuple[int, ...]) -> Inputs:
    """Read stored images, grey [S, S, 1], uint8."""
    return Inputs(lambda entries: images.read([sha256 for sha256, _ in entries])[..., np.newaxis], shape, "uint8")


def epoch_order(count: np.ndarray, *, views: int, seed: int, epoch: int) -> np.ndarray:
    """Draw the order of the images in one epoch.

    Image i appears ``count[i]`` times. Each time, its next view is shown, so that after ``views + 1`` times every view
    was shown once, including the image itself. The seed determines the order and the first view of each image.

    Returns:
        Image index and view, int64 [sum of count, 2].

    Example:
        >>> epoch_order(np.array([1, 0, 2]), views=0, seed=0, epoch=0).tolist()
        [[2, 0], [0, 0], [2, 0]]
    """
    image = np.repeat(np.arange(len(count)), count)
    repetition = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count)
    first = np.random.default_rng(seed).integers(views + 1, size=len(count))
    view = (first[image] + epoch * count[image] + repetition) % (views + 1)
    order = np.stack([image, view], axis=1)
    return np.random.default_rng([seed, epoch]).permutation(order)


def batches(
    inputs: Inputs,
    sha256s: Sequence[str] | np.ndarray,
    order: np.ndarray | None = None,
    *,
    batch_size: int,
    targets: tuple[np.ndarray, np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Read images in a given order.

    Args:
        inputs: how to read them.
        sha256s: digests of the images, n.
        order: image index and view, integers [m, 2]; None for each image once, unchanged.
        batch_size: images per batch; the last batch may have fewer.
        targets: labels [n, k] and weights [n] of all images, float32; None for inputs alone.

    Returns:
        Dataset of inputs [b, *shape], or of inputs, labels [b, k] and weights [b].
    """
    names = np.asarray(sha256s, str).tolist()
    if order is None:
        order = np.stack([np.arange(len(names)), np.zeros(len(names), np.int64)], axis=1)
    signature: tuple[Any, ...] = (tf.TensorSpec((None, *inputs.shape), inputs.dtype),)
    signature += tuple(tf.TensorSpec((None, *target.shape[1:]), "float32") for target in targets or ())

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            entries = [(names[image], view) for image, view in chunk.tolist()]
            yield inputs.read(entries), *(target[chunk[:, 0]] for target in targets or ())

    n_batches = -(-len(order) // batch_size)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(2)
