"""What a training is given: the images of a split with their labels, and the settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from cxr_pipeline.data.splits import select_split
from cxr_pipeline.training.features import Images


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split, with labels and with how they are shown in training.

    Args:
        images: the prepared images.
        sha256: their digests, str [n].
        y: labels of each image, 0, 1 or NaN for unknown, float32 [n, k].
        weight: weight of each image in the loss, float32 [n].
        count: how often an image is shown in an epoch, int64 [n].

    Raises:
        ValueError: the arrays differ in length, are empty, or a label is none.
    """

    images: Images
    sha256: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    count: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("sha256", str), ("y", np.float32), ("weight", np.float32), ("count", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        lengths = {name: len(getattr(self, name)) for name in ("sha256", "y", "weight", "count")}
        if len(set(lengths.values())) != 1 or not len(self.y):
            raise ValueError(f"Expected arrays of one length above 0. Received: {lengths}")
        if self.y.ndim != 2:
            raise ValueError(f"Expected labels [n, k]. Received: y.shape={self.y.shape}")
        if not (np.isin(self.y, (0, 1)) | np.isnan(self.y)).all():
            raise ValueError(f"Expected labels 0, 1 and NaN. Received: y={np.unique(self.y)}")

    @classmethod
    def unweighted(cls, *, images: Images, sha256: np.ndarray, y: np.ndarray) -> Self:
        """Images that are shown once and weigh the same, as in validation."""
        return cls(images=images, sha256=sha256, y=y, weight=np.ones(len(y)), count=np.ones(len(y)))

    @property
    def prevalence(self) -> np.ndarray:
        """Fraction of positives of each output as they are shown, by count and weight, float64 [k].

        Only images whose label is known are counted; NaN where none is.
        """
        shown = (self.count * self.weight)[:, np.newaxis] * ~np.isnan(self.y)
        with np.errstate(invalid="ignore"):
            fraction: np.ndarray = (shown * np.nan_to_num(self.y)).sum(axis=0) / shown.sum(axis=0)
        return fraction

    def check_labels(self, *, n_outputs: int, exclusive: bool) -> None:
        """Make sure that the labels are those of a network's outputs.

        Args:
            n_outputs: of the network.
            exclusive: exactly one label of each image must be 1, and all must be known.

        Raises:
            ValueError: they are not.
        """
        if self.y.shape[1] != n_outputs:
            raise ValueError(f"Expected labels of {n_outputs} outputs. Received: y.shape={self.y.shape}")
        if exclusive and not (self.y.sum(axis=1) == 1).all():
            raise ValueError(f"Expected one label 1 an image. Received: {np.unique(self.y.sum(axis=1))}")

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
    """The images that a task learns from, as often as its plan shows them, and those that choose its epoch.

    Args:
        images: the prepared images.
        manifest: with a column ``label_<output>`` for each output.
        splits: of the images of the manifest.
        sampling_plan: ``count`` and ``weight`` of each training image.
        outputs: of the network.
    """
    labels = [f"label_{output}" for output in outputs]
    planned = sampling_plan.merge(manifest[["source", "image", *labels]], on=["source", "image"], validate="one_to_one")
    validation = select_split(manifest, splits, "validation")
    return (
        ImageSet(
            images=images,
            sha256=planned["sha256"].to_numpy(str),
            y=planned[labels].to_numpy(),
            weight=planned["weight"].to_numpy(),
            count=planned["count"].to_numpy(),
        ),
        ImageSet.unweighted(images=images, sha256=validation["sha256"].to_numpy(str), y=validation[labels].to_numpy()),
    )


@dataclass(frozen=True)
class FineTuningSettings:
    """The second phase of a pretrained backbone.

    Args:
        cut: layer of the backbone below which nothing is trained; None for the backbone's own.
        epochs: 0 switches the phase off.
        learning_rate: at the first step of the phase.
        batch_size: images in a step.
    """

    cut: str | None
    epochs: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is fitted.

    Args:
        loss: a name that `build_loss` knows.
        optimizer: a name that `build_optimizer` knows.
        learning_rate: at the first step.
        schedule: ``constant`` or ``cosine``.
        weight_decay: decoupled.
        head_weight_decay: that of a head trained alone, on the features of a frozen backbone.
        epochs: at most so many; of the head alone where the backbone is pretrained.
        batch_size: images in a step.
        monitor: column of the history that chooses the epoch.
        tolerance: how much worse than the best an epoch may be and be kept for being later.
        patience: epochs without one that is kept before a phase stops; None for never.
        mixed_bfloat16: compute in bfloat16, keep the weights in float32.
        seed: of the order of images.
        fine_tuning: the second phase.
        companions: columns of the history by which later trainings, otherwise the same, choose their epoch. What
            they would come to is kept for them; by another column than ``monitor`` only where there is one phase.
    """

    loss: str
    optimizer: str
    learning_rate: float
    schedule: str
    weight_decay: float
    head_weight_decay: float
    epochs: int
    batch_size: int
    monitor: str
    tolerance: float
    patience: int | None
    mixed_bfloat16: bool
    seed: int
    fine_tuning: FineTuningSettings
    companions: Sequence[str] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from nested mappings, such as the ``training`` parameters.

        Raises:
            TypeError: a key is missing or unknown.
        """
        fine_tuning = FineTuningSettings(**values["fine_tuning"])
        return cls(**{**values, "fine_tuning": fine_tuning})
