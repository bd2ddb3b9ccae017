"""Bootstrap confidence intervals of every metric, clustered by patient.

A replicate is a vector of weights: how often each image was drawn. The images of an output are sorted once. Every
metric of many replicates then follows from cumulative sums over a matrix of weights, without sorting again. Matrices
have about ``CHUNK`` elements, so that they fit into the cache and memory does not grow with the number of replicates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, known_images
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.evaluation.weighted_metrics import WeightedMetrics

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Interval = dict[str, float | None]
Replicates = Mapping[str, Floats]

CHUNK = 2**18


class _Output:
    """One output, restricted to the images with a known label, by decreasing probability."""

    def __init__(self, y_true: Floats, probability: Floats, predicted: NDArray[np.bool_], codes: Indices) -> None:
        images = np.flatnonzero(~np.isnan(y_true))
        positive, scores = known_images(y_true, probability)
        order = np.lexsort((positive, -scores))
        self.images, self.positive = images[order], positive[order]
        self.n_patients = len(np.unique(codes[images]))
        self._metrics = WeightedMetrics(self.positive, scores[order], predicted[self.images])

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
        codes: [n], their patients from `patient_codes`.
    """

    def __init__(self, scores: Scores, images: Indices, codes: Indices, *, exclusive: bool) -> None:
        true, predicted = scores.y_true[images], scores.predicted[images]
        columns = zip(true.T, scores.probability[images].T, predicted.T, strict=True)
        self.outputs = [_Output(*column, codes) for column in columns]
        self._right = (predicted & (true == 1)).any(axis=1).astype(np.float64) if exclusive else None

    def replicate(self, weights: Floats) -> list[Replicates]:
        """Compute every metric for each row of weights [replicates, n]: of each output, and last of their mean."""
        replicates = [output.replicate(weights) for output in self.outputs]
        return [*replicates, self.mean(replicates, weights)]

    def mean(self, outputs: Sequence[Replicates], weights: Floats) -> Replicates:
        """Compute the mean of each metric over the outputs for which it is defined, [replicates]."""
        means = {name: _nanmean(np.stack([values[name] for values in outputs])) for name in METRICS}
        if self._right is None:
            return means
        with np.errstate(invalid="ignore"):
            accuracy = (weights @ self._right) / weights.sum(axis=1)
        return {**means, "accuracy": accuracy, "balanced_accuracy": means["sensitivity"]}


def measure(
    scores: Scores,
    patients: ArrayLike | None,
    *,
    exclusive: bool,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Compute every metric of every output, and their means, with intervals, in the form of ``metrics.json``.

    Means (macro averages) are over the outputs for which a metric is defined. ``brier`` and ``ece`` of several outputs
    are means of each class against the rest (classwise calibration error).

    Intervals are percentiles of a bootstrap that draws whole patients with replacement, the same ones for all outputs.
    A replicate without images of both classes of an output is dropped for that output, and a replicate in which a
    metric is undefined for that metric; the mean of a replicate is over the remaining outputs. The calibration error is
    biased upwards, and more so in a replicate. The lower end of its interval is therefore reflected at the value if
    that is lower (basic bootstrap interval), so that the interval contains the value.

    Args:
        scores: n images; those without any known label are left out, and the order does not matter.
        patients: [n], the patient of each image, null for a patient with one image; None to draw images instead.
        exclusive: whether each image has exactly one class. ``accuracy`` is then the share of images with a correct
            decision instead of a mean over the outputs, and ``balanced_accuracy`` the mean of the sensitivities.
        replicates: number of bootstrap samples.
        confidence: in (0, 1), such as 0.95.
        seed: of the random draws.

    Returns:
        ``metrics``: for each of the ``METRICS`` ``{"value", "low", "high"}``, null if undefined; ``low`` and ``high``
        are also null with fewer than two patients. ``per_class``: the same for each output. ``support``: ``n_known``
        and ``n_positive`` of each output.

    Raises:
        UserError: a score is NaN.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
        Field, Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007.
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, for the classwise calibration error.
    """
    columns = zip(scores.y_true.T, scores.probability.T, scores.predicted.T, strict=True)
    values = [binary_metrics(*column) for column in columns]
    order = _canonical_order(scores)
    codes = patient_codes(patients, order)
    images = DecidedImages(scores, order, codes, exclusive=exclusive)
    unweighted = [{name: np.array([number]) for name, number in value.items()} for value in values]
    whole = images.mean(unweighted, np.ones((1, len(order))))
    # The first chunk is empty, because there may be no draws.
    undrawn = dict.fromkeys(METRICS, np.empty(0))
    chunks = [[undrawn] * (len(values) + 1), *map(images.replicate, draw_weights(codes, replicates, seed))]
    *drawn, drawn_mean = (
        {name: np.concatenate([chunk[name] for chunk in output]) for name in METRICS}
        for output in zip(*chunks, strict=True)
    )
    per_class, support = {}, {}
    for name, output, value, own in zip(scores.outputs, images.outputs, values, drawn, strict=True):
        per_class[name] = _intervals(value, own if output.n_patients > 1 else undrawn, confidence)
        support[name] = {"n_known": len(output.images), "n_positive": int(output.positive.sum())}
    mean = {name: float(value[0]) for name, value in whole.items()}
    return {"metrics": _intervals(mean, drawn_mean, confidence), "per_class": per_class, "support": support}


def bootstrap_mean(
    values: ArrayLike, patients: ArrayLike | None, *, replicates: int, confidence: float, seed: int
) -> Interval:
    """Compute the mean of a number over images, with a percentile bootstrap interval clustered by patient.

    Values [n] that are NaN are left out; see `measure` for the other arguments.

    Returns:
        ``{"value", "low", "high"}``; null without images; ``low`` and ``high`` also with fewer than two patients.

    Example:
        >>> bootstrap_mean([0.25, 0.75], ["a", "a"], replicates=100, confidence=0.95, seed=0)
        {'value': 0.5, 'low': None, 'high': None}
    """
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")[: np.count_nonzero(~np.isnan(numbers))]
    numbers = numbers[order]
    if not len(numbers):
        return {"value": None, "low": None, "high": None}
    codes = patient_codes(patients, order)
    drawn = [(weights @ numbers) / weights.sum(axis=1) for weights in draw_weights(codes, replicates, seed)]
    low, high = percentiles(np.concatenate([np.empty(0), *drawn]), confidence)
    return {"value": float(numbers.mean()), "low": _number(low), "high": _number(high)}


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


def _canonical_order(scores: Scores) -> Indices:
    """Return the indices of the images with a known label, in an order that is independent of the row order."""
    order = np.lexsort((*scores.predicted.T, *scores.y_true.T, *-scores.probability.T[::-1]))
    return order[~np.isnan(scores.y_true[order]).all(axis=1)]


def _intervals(values: Mapping[str, float], drawn: Replicates, confidence: float) -> dict[str, Interval]:
    intervals = {}
    for name in METRICS:
        low, high = percentiles(drawn[name], confidence)
        if name == "ece" and not np.isnan(high):
            low = max(0.0, min(low, 2 * values[name] - high))
        intervals[name] = {"value": _number(values[name]), "low": _number(low), "high": _number(high)}
    return intervals


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _nanmean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))
