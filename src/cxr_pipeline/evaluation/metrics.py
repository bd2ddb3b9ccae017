"""Metrics of one output on labelled images, their bootstrap replicates, and the AUC of permuted labels.

A replicate is a vector of weights: how often each image was drawn. The images of an output are sorted once. Every
metric of many replicates then follows from cumulative sums over a matrix of weights, without sorting again. Matrices
have about ``CHUNK`` elements, so that they fit into the cache and memory does not grow with the number of replicates.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.progress import track

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Replicates = Mapping[str, Floats]

METRICS = (
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "brier",
    "ece",
)
# What models are compared by.
HEADLINE = ("auc", "accuracy", "sensitivity", "specificity", "ece")
N_BINS = 10
CHUNK = 2**18
# Labels held in memory at a time.
_LABELS = 2**22


def check_scores(y_score: Floats) -> None:
    """Raise a `UserError` if a score [n, k] is NaN, and a `ValueError` if one lies outside [0, 1]."""
    missing = np.isnan(y_score)
    if missing.any():
        raise UserError(
            f"The model returned NaN instead of a probability for {missing.any(axis=1).sum()} of {len(y_score)} "
            "images: its training diverged. Train again with a lower learning rate, for example "
            "--params <task>.training.learning_rate=0.0001"
        )
    if len(y_score) and (y_score.min() < 0 or y_score.max() > 1):
        raise ValueError(f"Scores must lie in [0, 1]. Received: {y_score.min()} to {y_score.max()}")


def known_images(y_true: ArrayLike, y_score: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Return labels, bool [m], and scores, float64 [m], of the images whose label is known, after checking them.

    Both arguments are [n]: labels are 1, 0 or NaN for unknown, scores lie in [0, 1].

    Raises:
        UserError: a score is NaN.
        ValueError: the shapes differ, a label is neither 0, 1 nor NaN, or a score lies outside [0, 1].
    """
    labels = np.asarray(y_true, dtype=np.float64)
    scores = np.asarray(y_score, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"Labels and scores must have the same shape [n]. Received: {labels.shape} and {scores.shape}")
    known = ~np.isnan(labels)
    labels, scores = labels[known], scores[known]
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"Labels must be 0, 1 or NaN. Received: {np.unique(labels)[:10]}")
    check_scores(scores[:, None])
    return labels == 1, scores


def equal_mass_bins(probability: ArrayLike, n_bins: int = N_BINS) -> Indices:
    """Return the bin of each image [n] by increasing probability, 0 .. n_bins - 1.

    Bins are of about equal size, but images of equal probability share one, so that some bins may stay empty.
    """
    probability = np.asarray(probability, dtype=np.float64)
    n_images = len(probability)
    if n_images == 0:
        return np.zeros(0, dtype=np.intp)
    lasts = (n_images * np.arange(1, n_bins) - 1) // n_bins
    return np.searchsorted(np.sort(probability)[lasts], probability)


class SortedImages:
    """The images of one output with a known label, by decreasing probability.

    Arguments are [n]: labels, 1, 0 or NaN, probabilities and decisions.

    Attributes:
        images: indices of the m images with a known label.
        positive, probability, predicted: of these images, [m].
    """

    def __init__(self, y_true: Floats, probability: Floats, predicted: NDArray[np.bool_]) -> None:
        known = np.flatnonzero(~np.isnan(y_true))
        positive, scores = known_images(y_true, probability)
        order = np.lexsort((positive, -scores))
        self.images, self.positive, self.probability = known[order], positive[order], scores[order]
        self.predicted = predicted[self.images]
        new_value = np.flatnonzero(np.diff(self.probability)) + 1
        starts, ends = np.concatenate(([0], new_value)), np.concatenate((new_value, [len(order)]))
        self._positives = np.flatnonzero(self.positive)
        step = np.searchsorted(starts, self._positives, side="right") - 1
        # Only steps of the ROC curve with a positive image contribute to AUC and average precision.
        steps, self._first_positive = np.unique(step, return_index=True)
        self._starts, self._ends = starts[steps], ends[steps]
        self._gap = self.positive - self.probability
        self._bin_starts = np.flatnonzero(np.diff(equal_mass_bins(self.probability), prepend=-1))

    def replicate(self, weights: Floats) -> Replicates:
        """Compute every metric, float64 [replicates], for each row of weights [replicates, n], at least 0.

        Metrics are NaN where undefined, and all metrics are NaN in a replicate that lost the positive or the negative
        images. ``ece`` uses the bins of the unweighted images.
        """
        own = np.take(weights, self.images, axis=1)
        upto = np.zeros((len(own), own.shape[1] + 1))
        np.cumsum(own, axis=1, out=upto[:, 1:])
        positives = own[:, self._positives]
        total, n_positive = upto[:, -1], positives.sum(1)
        n_negative = total - n_positive
        true_positive = own[:, np.flatnonzero(self.predicted & self.positive)].sum(1)
        false_positive = own[:, np.flatnonzero(self.predicted)].sum(1) - true_positive
        false_negative, true_negative = n_positive - true_positive, n_negative - false_positive
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity, specificity = true_positive / n_positive, true_negative / n_negative
            auc, average_precision = self._areas(upto, positives, n_positive, n_negative)
            values = {
                "auc": auc,
                "average_precision": average_precision,
                "accuracy": (true_positive + true_negative) / total,
                "balanced_accuracy": (sensitivity + specificity) / 2,
                "sensitivity": sensitivity,
                "specificity": specificity,
                "precision": true_positive / (true_positive + false_positive),
                "f1": 2 * true_positive / (2 * true_positive + false_positive + false_negative),
                "brier": (own * self._gap**2).sum(1) / total,
            }
        values["ece"] = self._calibration_error(own)
        lost = (self.positive.any() & (n_positive == 0)) | ((~self.positive).any() & (n_negative == 0))
        return {name: np.where(lost, np.nan, value) for name, value in values.items()}

    def calibration_error(self, weights: Floats) -> Floats:
        """Compute ``ece`` alone, float64 [replicates]; NaN in replicates without any of the images."""
        return self._calibration_error(np.take(weights, self.images, axis=1))

    def _calibration_error(self, own: Floats) -> Floats:
        gaps = np.add.reduceat(own * self._gap, self._bin_starts, axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(gaps).sum(1) / own.sum(1))

    def _areas(self, upto: Floats, positives: Floats, n_positive: Floats, n_negative: Floats) -> tuple[Floats, Floats]:
        """Compute AUC (ties count half) and average precision, each [replicates]."""
        if not len(self._positives):
            nan = np.full(len(upto), np.nan)
            return nan, nan
        gained = np.add.reduceat(positives, self._first_positive, axis=1)
        found = np.cumsum(gained, axis=1)
        predicted = upto[:, self._ends]
        above_or_tied = predicted - found
        above = upto[:, self._starts] - (found - gained)
        beaten = 2 * n_negative[:, None] - above_or_tied - above
        auc = (gained * beaten).sum(1) / (2 * n_positive * n_negative)
        precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
        average_precision = (gained * precision).sum(1) / n_positive
        return auc, np.where(n_negative > 0, average_precision, np.nan)


def percentile_interval(drawn: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of a percentile interval over the replicates [m] that are not NaN."""
    low, high = np.nanquantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def draw_weights(codes: Indices, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield how often each image is drawn, float64 [some replicates, n]; nothing with fewer than two patients.

    ``codes``, [n], are the numbers of the patients, from 0.
    """
    n_images = len(codes)
    n_groups = int(codes.max()) + 1 if n_images else 0
    if n_groups < 2:
        return
    rng = np.random.default_rng(seed)
    per_chunk = max(1, CHUNK // n_images)
    chunks = [min(per_chunk, replicates - first) for first in range(0, replicates, per_chunk)]
    for n_rows in track(chunks, "Bootstrap", replicates, size=int):
        drawn = rng.integers(n_groups, size=(n_rows, n_groups))
        drawn += n_groups * np.arange(n_rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n_rows * n_groups).reshape(n_rows, n_groups).astype(np.float64)
        yield counts if n_groups == n_images else np.take(counts, codes, axis=1)


def nanmean(values: Floats) -> Floats:
    """Return the mean over the first axis of the values that are not NaN, NaN where there are none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))


def mean_auc(y_true: NDArray[np.floating], y_score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the mean AUC over the outputs [b], for many labellings of the same images at once.

    Labels [b, n, k] are 0, 1 or NaN for unknown; ties of the scores [n, k] count half. Outputs without both positive
    and negative labels do not count; without any other, the mean is NaN.

    Example:
        >>> mean_auc(np.array([[[0.0], [0.0], [1.0], [1.0]]]), np.array([[0.1], [0.4], [0.35], [0.8]]))
        array([0.75])
    """
    from scipy.stats import rankdata

    positive, known = y_true == 1, ~np.isnan(y_true)
    # The AUC is the statistic of Mann and Whitney, computed from the ranks of the scores.
    ranks = rankdata(np.where(known, y_score, np.nan), axis=1, nan_policy="omit")
    n_positive = positive.sum(axis=1)
    n_negative = known.sum(axis=1) - n_positive
    wins = np.where(positive, ranks, 0).sum(axis=1) - n_positive * (n_positive + 1) / 2
    aucs = np.ma.masked_invalid(np.ma.divide(wins, n_positive * n_negative))
    means: NDArray[np.float64] = aucs.mean(axis=1).filled(np.nan)
    return means


def null_bound(
    y_true: NDArray[np.floating],
    y_score: NDArray[np.floating],
    *,
    contents: NDArray[np.intp],
    false_alarms: float,
    permutations: int,
    seed: int,
) -> float:
    """Compute the distance of the mean AUC from 0.5 by chance, by permuting the labels while the scores stay fixed.

    If the labels were permuted image by image before training, this is the exact distribution of the AUC given the
    scores, with ties, few positives and correlated outputs. Images of the same patient do not widen it, because their
    labels are exchangeable, too. The labels [n, k] of an image, 0, 1 or NaN, stay together, and images with equal
    ``contents`` [n] have equal labels. A larger distance has the probability ``false_alarms``, in (0, 1).

    References:
        Good, "Permutation, parametric and bootstrap tests of hypotheses", 2005, chapter 3.
        Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR 11, 2010.
    """
    _, first, content = np.unique(contents, return_index=True, return_inverse=True)
    rng, labels = np.random.default_rng(seed), y_true[first]
    chunk = max(1, _LABELS // y_true.size)
    distances = []
    for start in range(0, permutations, chunk):
        rows = np.tile(np.arange(len(labels)), (min(chunk, permutations - start), 1))
        permuted = labels[rng.permuted(rows, axis=1)][:, content]
        distances.append(np.abs(mean_auc(permuted, y_score) - 0.5))
    return float(np.quantile(np.concatenate(distances), 1 - false_alarms, method="higher"))
