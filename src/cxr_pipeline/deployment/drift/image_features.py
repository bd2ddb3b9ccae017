"""The features of images for drift detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.evaluation.score_tables import patients_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of n images, one per patient.

    Args:
        statistics: float32 [n, s], statistics of the prepared pixels in the order of ``pixel_statistics.STATISTICS``.
        features: float32 [n, d], pooled features of the network.
        probability: float64 [n, k], calibrated, in [0, 1].
        y_true: float64 [n, k], labels 1 or 0, NaN where unknown.
        source: str [n], source of each image, empty if unknown.

    Raises:
        ValueError: The arrays differ in the number of images or outputs.
    """

    statistics: NDArray[np.float32]
    features: NDArray[np.float32]
    probability: Floats
    y_true: Floats
    source: NDArray[np.str_]

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in vars(self).items()}
        if len({shape[0] for shape in shapes.values()}) != 1 or self.probability.shape != self.y_true.shape:
            raise ValueError(f"Expected arrays of the same images and outputs. Received: {shapes}")

    def __len__(self) -> int:
        return len(self.statistics)

    @classmethod
    def from_rows(cls, rows: NDArray[Any]) -> Self:
        """Convert the structured array of `FeatureExtractor.extract`; labels and sources are unknown."""
        statistics, features, probability = (np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ())
        return cls(statistics, features, probability, np.full(probability.shape, np.nan), np.full(len(rows), ""))

    def take(self, index: NDArray[np.intp] | slice) -> Self:
        """Return the images at the given positions."""
        return type(self)(*(values[index] for values in vars(self).values()))

    def with_metadata(self, rows: pd.DataFrame, outputs: Sequence[str]) -> Self:
        """Add the ``source`` and, where the rows of the same n images have them, the labels of the k outputs."""
        labels = [f"label_{output}" for output in outputs]
        y_true = rows[labels].to_numpy("float64") if set(labels) <= set(rows.columns) else self.y_true
        return replace(self, source=rows["source"].to_numpy(np.str_), y_true=y_true)


def sample_one_per_patient(rows: pd.DataFrame, *, max_images: int, seed: int) -> pd.DataFrame:
    """Sample one image of each patient at random.

    The tests assume independent images. Several images of one patient are similar, and would be reported as drift. An
    image of an unknown patient counts as a separate patient.

    Returns:
        At most ``max_images`` rows, in their original order.

    Example:
        >>> rows = pd.DataFrame({"source": "nih", "patient_id": ["1", "1", "2", None, None]})
        >>> len(sample_one_per_patient(rows, max_images=10, seed=0))
        4
    """
    shuffled = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    patients = patients_of(shuffled)
    if patients is not None:
        shuffled = shuffled[~patients.duplicated() | patients.isna()]
    return shuffled.head(max_images).sort_index()
