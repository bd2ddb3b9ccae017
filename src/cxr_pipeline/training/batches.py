"""Which image is shown when, and the ``tf.data`` pipeline that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from cxr_pipeline.training.features import Images

if TYPE_CHECKING:
    from tensorflow.data import Dataset


@dataclass(frozen=True)
class Inputs:
    """What a network is fed, read batch by batch.

    Args:
        read: from pairs of image index and view [b, 2] to inputs [b, *shape].
        shape: of one input.
        dtype: of the inputs, such as ``"uint8"``.
    """

    read: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]
    dtype: str


def image_inputs(images: Images, sha256s: np.ndarray) -> Inputs:
    """Feed images as they are stored, grey [S, S, 1], uint8."""
    size = images.read(sha256s[:1].tolist()).shape[1]

    def read(chunk: np.ndarray) -> np.ndarray:
        return images.read(sha256s[chunk[:, 0]].tolist())[..., np.newaxis]

    return Inputs(read, shape=(size, size, 1), dtype="uint8")


def epoch_order(count: np.ndarray, *, views: int, seed: int, epoch: int) -> np.ndarray:
    """Deal the images of one epoch.

    Image i comes ``count[i]`` times, in an order drawn for this epoch. From one showing to the next it goes on to
    its next view, so that after ``views + 1`` showings all were seen, the image itself included.

    Args:
        count: showings of each image in an epoch, integers [n].
        views: augmented views of an image, besides view 0.
        seed: of the order and of each image's first view.
        epoch: 0-based.

    Returns:
        Image index and view, int64 [sum of count, 2].
    """
    image = np.repeat(np.arange(len(count)), count)
    repetition = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count)
    first = np.random.default_rng(seed).integers(views + 1, size=len(count))
    view = (first[image] + epoch * count[image] + repetition) % (views + 1)
    order = np.stack([image, view], axis=1)
    return np.random.default_rng([seed, epoch]).permutation(order)


def batches(
    inputs: Inputs,
    order: np.ndarray,
    *,
    batch_size: int,
    targets: tuple[np.ndarray, np.ndarray] | None = None,
) -> Dataset:
    """Read images in a given order.

    Args:
        inputs: where they are read.
        order: image index and view, integers [m, 2].
        batch_size: images in a batch; the last may have fewer.
        targets: labels and weight of every image, float32 [n, k] and [n]; None to predict.

    Returns:
        Dataset of inputs [b, *shape], or of inputs, labels [b, k] and weights [b].
    """
    columns: tuple[Any, ...] = (tf.TensorSpec((None, *inputs.shape), inputs.dtype),)
    if targets is not None:
        columns += tuple(tf.TensorSpec((None, *target.shape[1:]), "float32") for target in targets)

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch: tuple[np.ndarray, ...] = (inputs.read(chunk),)
            if targets is not None:
                batch += tuple(target[chunk[:, 0]] for target in targets)
            yield batch

    n_batches = -(-len(order) // batch_size)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=columns)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(2)
