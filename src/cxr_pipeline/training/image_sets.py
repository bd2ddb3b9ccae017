"""The images of training and validation with their labels, and the ``tf.data`` pipeline that reads them in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.training.features import Entry


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split: their digests, labels (0, 1 or NaN for unknown), weights in the loss, and counts.

    The count of an image is how often it is shown in an epoch. Labels are [n, k], all other arrays [n].
    """

    images: PreparedImages
    sha256: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    count: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("sha256", str), ("y", np.float32), ("weight", np.float32), ("count", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))

    @classmethod
    def unweighted(cls, *, images: PreparedImages, sha256: np.ndarray, y: np.ndarray) -> Self:
        """Build a set whose images are shown once with weight 1, as in validation."""
        return cls(images=images, sha256=sha256, y=y, weight=np.ones(len(y)), count=np.ones(len(y)))

    @property
    def prevalence(self) -> np.ndarray:
        """Fraction of positives among the known labels by count and weight, float64 [k]; NaN if there are none."""
        shown = (self.count * self.weight)[:, np.newaxis] * ~np.isnan(self.y)
        with np.errstate(invalid="ignore"):
            fraction: np.ndarray = (shown * np.nan_to_num(self.y)).sum(axis=0) / shown.sum(axis=0)
        return fraction

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe and of all arrays."""
        digest = hashlib.sha256(self.images.digest.encode())
        for array in (self.sha256, self.y, self.weight, self.count):
            digest.update(array.tobytes())
        return digest.hexdigest()


def image_sets(
    images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    *,
    outputs: Sequence[str],
) -> tuple[ImageSet, ImageSet]:
    """Return the training images with the counts and weights of the sampling plan, and the validation images.

    Labels are the columns ``label_<output>`` of the manifest.
    """
    labels = [f"label_{output}" for output in outputs]
    planned = sampling_plan.merge(manifest[["source", "image", *labels]], on=["source", "image"], validate="one_to_one")
    validation = select_split(manifest, splits, "validation")
    train = ImageSet(
        images=images,
        sha256=planned["sha256"].to_numpy(str),
        y=planned[labels].to_numpy(),
        weight=planned["weight"].to_numpy(),
        count=planned["count"].to_numpy(),
    )
    sha256 = validation["sha256"].to_numpy(str)
    return train, ImageSet.unweighted(images=images, sha256=sha256, y=validation[labels].to_numpy())


@dataclass(frozen=True)
class Inputs:
    """Inputs of a network, read batch by batch: ``read`` maps images and views to inputs [b, *shape]."""

    read: Callable[[Sequence[Entry]], np.ndarray]
    shape: tuple[int, ...]
    dtype: str


def image_inputs(images: PreparedImages, shape: tuple[int, ...]) -> Inputs:
    """Read stored images, grey [S, S, 1], uint8."""
    return Inputs(lambda entries: images.read([sha256 for sha256, _ in entries])[..., np.newaxis], shape, "uint8")


def epoch_order(count: np.ndarray, *, views: int, seed: int, epoch: int) -> np.ndarray:
    """Draw the order of the images in one epoch.

    Image i appears ``count[i]`` times. Each time, its next view is shown, so that after ``views + 1`` times every view
    was shown once, including the image itself. The seed determines the order and the first view of each image. The
    result is the index and the view of each image, int64 [sum of count, 2].

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
    """Read images in the order of index and view, integers [m, 2]; None for each of the n images once, unchanged.

    With ``targets``, labels [n, k] and weights [n], float32, a batch has inputs [b, *shape], labels [b, k] and weights
    [b], otherwise inputs alone; the last batch may be smaller.
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
