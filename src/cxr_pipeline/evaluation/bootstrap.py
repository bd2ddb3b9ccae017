"""Bootstrap confidence intervals of every metric, clustered by patient.

A replicate is a vector of weights: how often each image was drawn. The images of an output are sorted once. Every
metric of many replicates then follows from cumulative sums over a matrix of weights, without sorting again. Matrices
have about ``CHUNK`` elements, so that they fit into the cache and memory does not grow with the number of replicates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, known_images
from cxr_pipeline.evaluation.weighted_metrics import WeightedMetrics

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Interval = dict[str, float | None]
Replicates = Mapping[str, Floats]

CHUNK = 2**18


@dataclass(frozen=True, eq=False)
class _Output:
    """One output, restricted to the images with a known label.

    Args:
        images: [m], their indices among all images, by decreasing probability.
        positive: bool [m], their labels.
        metrics: of these images.
        n_patients: of these images.
    """

    images: Indices
    positive: Bools
    metrics: WeightedMetrics
    n_patients: int

    @classmethod
    def of(cls, y_true: Floats, probability: Floats, predicted: Bools, codes: Indices) -> Self:
        images = np.flatnonzero(~np.isnan(y_true))
        positive, scores = known_images(y_true, probability)
        order = np.lexsort((positive, -scores))
        images, positive = images[order], positive[order]
        metrics = WeightedMetrics(positive, scores[order], predicted[images])
        return cls(images, positive, metrics, len(np.unique(codes[images])))

    def replicate(self, weights: Floats) -> Replicates:
        """Compute every metric of every replicate; NaN in replicates without images of both classes."""
        own = np.take(weights, self.images, axis=1)
        if not len(self.images):
            return dict.fromkeys(METRICS, np.full(len(weights), np.nan))
        values = self.metrics(own)
        shares = (("sensitivity", self.positive), ("specificity", ~self.positive))
        lost = np.any([np.isnan(values[name]) for name, members in shares if members.any()], axis=0)
        return {name: np.where(lost, np.nan, value) for name, value in values.items()}

    def intervals(self, values: Mapping[str, float], drawn: Replicates, confidence: float) -> dict[str, Interval]:
        """Return every metric with its interval; the interval is null with fewer than two patients."""
        return _intervals(values, drawn if self.n_patients > 1 else dict.fromkeys(METRICS, np.empty(0)), confidence)


@dataclass(frozen=True, eq=False)
class DecidedImages:
    """Decided images, prepared for computing metrics under many weightings.

    Args:
        parts: the outputs.
        right: [n], 1 if the decision on an image is correct; None if the classes are not exclusive.
    """

    parts: tuple[_Output, ...]
    right: Floats | None

    @classmethod
    def of(cls, y_true: Floats, probability: Floats, predicted: Bools, codes: Indices, *, exclusive: bool) -> Self:
        """Prepare labels, probabilities and decisions [n, k] and patient codes [n]; see :func:`measure`."""
        columns = zip(y_true.T, probability.T, predicted.T, strict=True)
        parts = (_Output.of(*column, codes) for column in columns)
        right = (predicted & (y_true == 1)).any(axis=1).astype(np.float64) if exclusive else None
        return cls(tuple(parts), right)

    def replicate(self, weights: Floats) -> list[Replicates]:
        """Compute every metric for each row of weights [replicates, n]: of each output, and last of their mean."""
        replicates = [part.replicate(weights) for part in self.parts]
        return [*replicates, _mean_over_outputs(replicates, self.right, weights)]


def measure(
    y_true: ArrayLike,
    probability: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike | None,
    *,
    outputs: Sequence[str],
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
        y_true: [n, k], 1 positive, 0 negative, NaN unknown; images without any known label are left out.
        probability: [n, k], in [0, 1].
        predicted: bool [n, k], the decisions.
        groups: [n], the patient of each image, null for a patient with one image; None to draw images instead.
        outputs: names of the k outputs.
        exclusive: whether each image has exactly one class. ``accuracy`` is then the share of images with a correct
            decision instead of a mean over the outputs, and ``balanced_accuracy`` the mean of the sensitivities.
        replicates: number of bootstrap samples.
        confidence: in (0, 1), such as 0.95.
        seed: of the random draws. The order of the images does not matter.

    Returns:
        ``metrics``: for each of the ``METRICS`` ``{"value", "low", "high"}``, null if undefined; ``low`` and ``high``
        are also null with fewer than two patients. ``per_class``: the same for each output. ``support``: ``n_known``
        and ``n_positive`` of each output.

    Raises:
        UserError: a score is NaN.
        ValueError: the arrays are not all [n, k]; see also :func:`cxr_pipeline.evaluation.metrics.known_images`.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
        Field, Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007.
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, for the classwise calibration error.
    """
    true, scores, decided = _matrices(y_true, probability, predicted, len(outputs))
    values = [binary_metrics(*columns) for columns in zip(true.T, scores.T, decided.T, strict=True)]
    order = _canonical_order(true, scores, decided)
    true, scores, decided = true[order], scores[order], decided[order]
    codes = patient_codes(None if groups is None else np.asarray(groups, dtype=object)[order], len(order))
    images = DecidedImages.of(true, scores, decided, codes, exclusive=exclusive)
    unweighted = [{name: np.array([value[name]]) for name in METRICS} for value in values]
    whole = _mean_over_outputs(unweighted, images.right, np.ones((1, len(order))))
    *drawn, drawn_mean = _replicate(images, codes, replicates=replicates, seed=seed)
    return {
        "metrics": _intervals({name: float(value[0]) for name, value in whole.items()}, drawn_mean, confidence),
        "per_class": {
            output: part.intervals(value, replicate, confidence)
            for output, part, value, replicate in zip(outputs, images.parts, values, drawn, strict=True)
        },
        "support": {
            output: {"n_known": len(part.images), "n_positive": int(part.positive.sum())}
            for output, part in zip(outputs, images.parts, strict=True)
        },
    }


def bootstrap_mean(
    values: ArrayLike, groups: ArrayLike | None, *, replicates: int, confidence: float, seed: int
) -> Interval:
    """Compute the mean of a number over images, with a percentile bootstrap interval clustered by patient.

    Args:
        values: [n]; NaN is left out.
        groups: [n], the patient of each image, null for a patient with one image; None to draw images instead.
        replicates: number of bootstrap samples.
        confidence: in (0, 1).
        seed: of the random draws. The order of the images does not matter.

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
    codes = patient_codes(None if groups is None else np.asarray(groups, dtype=object)[order], len(order))
    drawn = [(weights @ numbers) / weights.sum(axis=1) for weights in draw_weights(codes, replicates, seed)]
    low, high = percentiles(np.concatenate([np.empty(0), *drawn]), confidence)
    return {"value": float(numbers.mean()), "low": _number(low), "high": _number(high)}


def _matrices(
    y_true: ArrayLike, probability: ArrayLike, predicted: ArrayLike, n_outputs: int
) -> tuple[Floats, Floats, Bools]:
    true, scores = np.asarray(y_true, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    decided = np.asarray(predicted, dtype=np.bool_)
    if not true.shape == scores.shape == decided.shape == (len(true), n_outputs):
        raise ValueError(
            f"Labels, probabilities and decisions must all be [n, {n_outputs}]. "
            f"Received: {true.shape}, {scores.shape} and {decided.shape}"
        )
    return true, scores, decided


def _canonical_order(true: Floats, scores: Floats, decided: Bools) -> Indices:
    """Return the indices of the images with a known label, in an order that is independent of the row order."""
    order = np.lexsort((*decided.T, *true.T, *-scores.T[::-1]))
    return order[~np.isnan(true[order]).all(axis=1)]


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


def percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of a percentile interval over the replicates [m] that are not NaN; NaN if there are none."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def patient_codes(groups: NDArray[np.object_] | None, n_images: int) -> Indices:
    """Number the patients of images from 0, ordered by id; each image without a patient gets its own number."""
    if groups is None:
        return np.arange(n_images)
    codes, ids = pd.factorize(groups, sort=True)
    alone = codes == -1
    codes[alone] = len(ids) + np.arange(alone.sum())
    return codes if len(np.unique(codes)) < n_images else np.arange(n_images)


def _replicate(images: DecidedImages, codes: Indices, *, replicates: int, seed: int) -> list[Replicates]:
    """Compute every metric of every replicate, of each output and last of their mean."""
    chunks: list[list[Replicates]] = [[dict.fromkeys(METRICS, np.empty(0))] * (len(images.parts) + 1)]
    chunks += [images.replicate(weights) for weights in draw_weights(codes, replicates, seed)]
    return [
        {name: np.concatenate([values[name] for values in output]) for name in METRICS}
        for output in zip(*chunks, strict=True)
    ]


def _mean_over_outputs(outputs: Sequence[Replicates], right: Floats | None, weights: Floats) -> Replicates:
    """Compute the mean of each metric over the outputs for which it is defined, [replicates].

    Args:
        outputs: the metrics of each output.
        right: see `DecidedImages`.
        weights: [replicates, n].
    """
    means = {name: _nanmean(np.stack([values[name] for values in outputs])) for name in METRICS}
    if right is None:
        return means
    with np.errstate(invalid="ignore"):
        accuracy = (weights @ right) / weights.sum(axis=1)
    return {**means, "accuracy": accuracy, "balanced_accuracy": means["sensitivity"]}


def _nanmean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))


def draw_weights(codes: Indices, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield how often each image is drawn, float64 [some replicates, n]; nothing with fewer than two patients."""
    n_images = len(codes)
    n_groups = int(codes.max()) + 1 if n_images else 0
    if n_groups < 2:
        return
    rng = np.random.default_rng(seed)
    per_chunk = max(1, CHUNK // n_images)
    for first in range(0, replicates, per_chunk):
        counts = _draw(rng, min(per_chunk, replicates - first), n_groups)
        yield counts if n_groups == n_images else np.take(counts, codes, axis=1)


def _draw(rng: np.random.Generator, n_rows: int, n_groups: int) -> Floats:
    """Draw n_groups groups with replacement and count them, float64 [n_rows, n_groups]."""
    drawn = rng.integers(n_groups, size=(n_rows, n_groups))
    drawn += n_groups * np.arange(n_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_rows * n_groups).reshape(n_rows, n_groups).astype(np.float64)
