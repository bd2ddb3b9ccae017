"""Bootstrap replicates of every metric, clustered by patient.

A replicate is a vector of weights: how often each image was drawn. The images of an output are sorted once. Every
metric of many replicates then follows from cumulative sums over a matrix of weights, without sorting again. Matrices
have about ``CHUNK`` elements, so that they fit into the cache and memory does not grow with the number of replicates.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import METRICS, known_images
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.evaluation.weighted_metrics import WeightedMetrics

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Replicates = Mapping[str, Floats]

CHUNK = 2**18


class _Output:
    """One output, restricted to the images with a known label, by decreasing probability."""

    def __init__(self, y_true: Floats, probability: Floats, predicted: NDArray[np.bool_]) -> None:
        images = np.flatnonzero(~np.isnan(y_true))
        positive, scores = known_images(y_true, probability)
        order = np.lexsort((positive, -scores))
        self.images, self.positive, self.probability = images[order], positive[order], scores[order]
        self.predicted = predicted[self.images]
        self._metrics = WeightedMetrics(self.positive, self.probability, self.predicted)

    def calibration_error(self, weights: Floats) -> Floats:
        """Compute the calibration error of every replicate; NaN in replicates without any of the images."""
        if not len(self.images):
            return np.full(len(weights), np.nan)
        return self._metrics.calibration_error(np.take(weights, self.images, axis=1))

    def replicate(self, weights: Floats) -> Replicates:
        """Compute every metric of every replicate; NaN in replicates without images of both classes."""
        own = np.take(weights, self.images, axis=1)
        if not len(self.images):
            return dict.fromkeys(METRICS, np.full(len(weights), np.nan))
        values = self._metrics(own)
        shares = (("sensitivity", self.positive), ("specificity", ~self.positive))
        lost = np.any([np.isnan(values[name]) for name, members in shares if members.any()], axis=0)
        return {name: np.where(lost, np.nan, value) for name, value in values.items()}


class DecidedImages:
    """Decided images, prepared for computing metrics under many weightings.

    Args:
        images: [n], the indices of the images to use.
    """

    def __init__(self, scores: Scores, images: Indices, *, exclusive: bool) -> None:
        true, predicted = scores.y_true[images], scores.predicted[images]
        columns = zip(true.T, scores.probability[images].T, predicted.T, strict=True)
        self.outputs = [_Output(*column) for column in columns]
        self._right = (predicted & (true == 1)).any(axis=1).astype(np.float64) if exclusive else None

    def calibration_errors(self, weights: Floats) -> Floats:
        """Compute the calibration error of each output for each row of weights, [outputs, replicates]."""
        return np.stack([output.calibration_error(weights) for output in self.outputs])

    def replicate(self, weights: Floats) -> list[Replicates]:
        """Compute every metric for each row of weights [replicates, n]: of each output, and last of their mean."""
        replicates = [output.replicate(weights) for output in self.outputs]
        return [*replicates, self.mean(replicates, weights)]

    def mean(self, outputs: Sequence[Replicates], weights: Floats) -> Replicates:
        """Compute the mean of each metric over the outputs for which it is defined, [replicates]."""
        means = {name: nanmean(np.stack([values[name] for values in outputs])) for name in METRICS}
        if self._right is None:
            return means
        with np.errstate(invalid="ignore"):
            accuracy = (weights @ self._right) / weights.sum(axis=1)
        return {**means, "accuracy": accuracy, "balanced_accuracy": means["sensitivity"]}


def percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of a percentile interval over the replicates [m] that are not NaN; NaN if there are none."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def patient_codes(patients: ArrayLike | None, images: Indices) -> Indices:
    """Number the patients of some images [m] from 0, ordered by id; an image without a patient gets its own number.

    ``patients`` has the patient of each image, null if unknown, or is None; ``images`` are indices of it.
    """
    if patients is None:
        return np.arange(len(images))
    codes, ids = pd.factorize(np.asarray(patients, dtype=object)[images], sort=True)
    alone = codes == -1
    codes[alone] = len(ids) + np.arange(alone.sum())
    return codes if len(np.unique(codes)) < len(images) else np.arange(len(images))


def draw_weights(codes: Indices, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield how often each image is drawn, float64 [some replicates, n]; nothing with fewer than two patients."""
    n_images = len(codes)
    n_groups = int(codes.max()) + 1 if n_images else 0
    if n_groups < 2:
        return
    rng = np.random.default_rng(seed)
    per_chunk = max(1, CHUNK // n_images)
    for first in range(0, replicates, per_chunk):
        n_rows = min(per_chunk, replicates - first)
        drawn = rng.integers(n_groups, size=(n_rows, n_groups))
        drawn += n_groups * np.arange(n_rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n_rows * n_groups).reshape(n_rows, n_groups).astype(np.float64)
        yield counts if n_groups == n_images else np.take(counts, codes, axis=1)


def nanmean(values: Floats) -> Floats:
    """Return the mean over the first axis of the values that are not NaN, NaN where there are none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))
