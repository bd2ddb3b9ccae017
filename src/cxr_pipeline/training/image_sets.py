"""The images of training and validation, with their labels and sampling plan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from cxr_pipeline.data.splits import select_split
from cxr_pipeline.training.features import Images


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split, with their labels, weights and counts.

    Args:
        sha256: digests of the images, str [n].
        y: labels, 0, 1 or NaN for unknown, float32 [n, k].
        weight: weight of each image in the loss, float32 [n].
        count: how often an image is shown in an epoch, int64 [n].

    Raises:
        ValueError: the arrays differ in length, are empty, or contain another label.
    """

    images: Images
    sha256: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    count: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("sha256", str), ("y", np.float32), ("weight", np.float32), ("count", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        lengths = [len(array) for array in (self.sha256, self.y, self.weight, self.count)]
        if self.y.ndim != 2 or len(set(lengths)) != 1 or not lengths[0]:
            raise ValueError(f"Expected labels [n, k] and other arrays [n]. Received: {self.y.shape=}, {lengths=}")
        if not (np.isin(self.y, (0, 1)) | np.isnan(self.y)).all():
            raise ValueError(f"Expected labels 0, 1 and NaN. Received: y={np.unique(self.y)}")

    @classmethod
    def unweighted(cls, *, images: Images, sha256: np.ndarray, y: np.ndarray) -> Self:
        """Build a set whose images are shown once with weight 1, as in validation."""
        return cls(images=images, sha256=sha256, y=y, weight=np.ones(len(y)), count=np.ones(len(y)))

    @property
    def prevalence(self) -> np.ndarray:
        """Fraction of positives among the known labels by count and weight, float64 [k]; NaN if there are none."""
        shown = (self.count * self.weight)[:, np.newaxis] * ~np.isnan(self.y)
        with np.errstate(invalid="ignore"):
            fraction: np.ndarray = (shown * np.nan_to_num(self.y)).sum(axis=0) / shown.sum(axis=0)
        return fraction

    def check_labels(self, *, n_outputs: int, exclusive: bool) -> None:
        """Raise a `ValueError` unless there are labels of each output and, if exclusive, exactly one is 1."""
        if self.y.shape[1] != n_outputs:
            raise ValueError(f"Expected labels of {n_outputs} outputs. Received: y.shape={self.y.shape}")
        if exclusive and not (self.y.sum(axis=1) == 1).all():
            raise ValueError(f"Expected one label 1 per image. Received: {np.unique(self.y.sum(axis=1))}")

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe and of all arrays."""
        digest = hashlib.sha256(self.images.digest.encode())
        for array in (self.sha256, self.y, self.weight, self.count):
            digest.update(array.tobytes())
        return digest.hexdigest()


def image_sets(
    images: Images, manifest: pd.DataFrame, splits: pd.DataFrame, sampling_plan: pd.DataFrame, *, outputs: Sequence[str]
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
