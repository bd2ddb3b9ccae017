"""Confidence intervals of every metric by a bootstrap over patients.

A replicate is a vector of weights: how often each film was drawn. The films are sorted once; then every
metric of many replicates comes from cumulative sums over a matrix of weights, without resampling or
sorting again. Matrices hold about ``CHUNK`` weights, so that they stay in the processor's cache and memory
does not grow with the number of replicates.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.metrics import METRICS, binary_metrics, confusion_rates, equal_mass_bins, known_films

CHUNK = 2**18


class WeightedMetrics:
    """The metrics of one set of films under any weights.

    Args:
        positive: bool [n], the labels.
        probability: float64 [n], in [0, 1], falling.
        threshold: a film is called positive where its probability is at least this.
    """

    def __init__(self, positive: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> None:
        n_films = len(positive)
        new_value = np.flatnonzero(np.diff(probability)) + 1
        self._positives = np.flatnonzero(positive)
        starts = np.concatenate(([0], new_value))
        ends = np.concatenate((new_value, [n_films]))
        step = np.searchsorted(starts, self._positives, side="right") - 1
        # Only steps of the ROC curve that hold a positive film add to AUC and average precision.
        steps, self._first_positive = np.unique(step, return_index=True)
        self._starts, self._ends = starts[steps], ends[steps]
        self._n_called = int((probability >= threshold).sum())
        self._n_called_positives = int(positive[: self._n_called].sum())
        self._gap = positive - probability
        self._squared_error = self._gap**2
        bins = equal_mass_bins(probability)
        self._bin_starts = np.flatnonzero(np.diff(bins, prepend=-1))

    def __call__(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every metric for every row of weights.

        Args:
            weights: float64 [replicates, n], not below 0.

        Returns:
            For each of ``METRICS`` float64 [replicates]; NaN where undefined. The bins of ``ece`` are
            those of the unweighted films.
        """
        upto = np.zeros((len(weights), weights.shape[1] + 1))
        np.cumsum(weights, axis=1, out=upto[:, 1:])
        positives = weights[:, self._positives]
        total, n_positive, true_positive = (
            upto[:, -1],
            positives.sum(1),
            positives[:, : self._n_called_positives].sum(1),
        )
        false_positive = upto[:, self._n_called] - true_positive
        n_negative = total - n_positive
        values = confusion_rates(true_positive, false_positive, n_positive - true_positive, n_negative - false_positive)
        with np.errstate(invalid="ignore", divide="ignore"):
            values["auc"], values["average_precision"] = self._areas(upto, positives, n_positive, n_negative)
            values["brier"] = (weights * self._squared_error).sum(1) / total
            gaps = np.add.reduceat(weights * self._gap, self._bin_starts, axis=1)
            values["ece"] = np.abs(gaps).sum(1) / total
        return values

    def _areas(
        self,
        upto: NDArray[np.float64],
        positives: NDArray[np.float64],
        n_positive: NDArray[np.float64],
        n_negative: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """AUC (ties count half) and average precision, each [replicates]."""
        if not len(self._positives):
            nan = np.full(len(upto), np.nan)
            return nan, nan
        gained = np.add.reduceat(positives, self._first_positive, axis=1)
        found = np.cumsum(gained, axis=1)
        called = upto[:, self._ends]
        above_or_tied = called - found
        above = upto[:, self._starts] - (found - gained)
        beaten = 2 * n_negative[:, None] - above_or_tied - above
        auc = (gained * beaten).sum(1) / (2 * n_positive * n_negative)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        average_precision = (gained * precision).sum(1) / n_positive
        return auc, np.where(n_negative > 0, average_precision, np.nan)


def bootstrap_intervals(
    y_true: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    groups: ArrayLike | None,
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of every metric; whole patients are drawn with replacement.

    A replicate that lost a class is dropped, and a replicate in which one metric is undefined is dropped
    from that metric. The calibration error is biased upward, and more so in a replicate: the lower end of
    its interval is reflected at the value where that is lower (basic bootstrap interval), so that the
    interval holds the value.

    Args:
        y_true: [n], 1 positive, 0 negative; films with NaN are left out.
        probability: [n], in [0, 1].
        threshold: a film is called positive where its probability is at least this.
        groups: [n], the patient of each film, where null stands for a patient of its own; None draws films.
        replicates: how often the sample is drawn.
        confidence: in (0, 1), such as 0.95.
        seed: decides the draws; films in another order get the same intervals.

    Returns:
        For each of ``METRICS`` the lower and upper end; NaN for a metric that is undefined on the films, and
        for all metrics where there are fewer than two patients.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
        Field, Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007.
    """
    positive, probability, codes = _sorted_films(y_true, probability, groups)
    if len(np.unique(codes)) < 2:
        return dict.fromkeys(METRICS, (float("nan"), float("nan")))
    metrics = WeightedMetrics(positive, probability, threshold)
    ece = float(metrics(np.ones((1, len(positive))))["ece"][0])
    drawn = _replicate(metrics, codes, positive, replicates=replicates, seed=seed)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    intervals = {name: _percentiles(drawn[name], tails) for name in METRICS}
    low, high = intervals["ece"]
    intervals["ece"] = (max(0.0, min(low, 2 * ece - high)), high)
    return intervals


def measure(
    y_true: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    groups: ArrayLike | None,
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """Every metric with its interval, in the form of ``metrics.json``.

    Args:
        y_true: [n], 1 positive, 0 negative; films with NaN are left out.
        probability: [n], in [0, 1].
        threshold: a film is called positive where its probability is at least this.
        groups: [n], the patient of each film, see :func:`bootstrap_intervals`; None draws films.
        replicates: how often the sample is drawn.
        confidence: in (0, 1).
        seed: decides the draws.

    Returns:
        For each of ``METRICS`` ``{"value", "low", "high"}``; null where undefined, since JSON has no NaN.
    """
    values = binary_metrics(y_true, probability, threshold)
    intervals = bootstrap_intervals(
        y_true, probability, threshold, groups, replicates=replicates, confidence=confidence, seed=seed
    )
    return {
        name: {"value": _number(values[name]), "low": _number(low), "high": _number(high)}
        for name, (low, high) in intervals.items()
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _percentiles(drawn: NDArray[np.float64], tails: tuple[float, float]) -> tuple[float, float]:
    """Quantiles of the replicates in which a metric is defined; NaN if it is in none."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, tails)
    return float(low), float(high)


def _sorted_films(
    y_true: ArrayLike, probability: ArrayLike, groups: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.intp]]:
    """Labels, probabilities and numbered groups of the films with a known label, by falling probability."""
    known = ~np.isnan(np.asarray(y_true, dtype=np.float64))
    positive, probability = known_films(y_true, probability)
    order = np.lexsort((positive, -probability))
    codes = np.arange(len(order))
    if groups is not None:
        numbers = _number_groups(np.asarray(groups, dtype=object)[known][order])
        codes = numbers if len(np.unique(numbers)) < len(order) else codes
    return positive[order], probability[order], codes


def _number_groups(groups: NDArray[np.object_]) -> NDArray[np.intp]:
    """Numbers from 0 in the order of the ids; films without an id get one each, after the others."""
    codes, ids = pd.factorize(groups, sort=True)
    alone = codes == -1
    codes[alone] = len(ids) + np.arange(alone.sum())
    return codes


def _replicate(
    metrics: WeightedMetrics, codes: NDArray[np.intp], positive: NDArray[np.bool_], *, replicates: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Every metric of every replicate that kept the classes of the sample."""
    rng = np.random.default_rng(seed)
    n_films, n_groups = len(codes), int(codes.max()) + 1
    per_chunk = max(1, CHUNK // n_films)
    chunks = []
    for first in range(0, replicates, per_chunk):
        counts = _draw(rng, min(per_chunk, replicates - first), n_groups)
        weights = counts if n_groups == n_films else np.take(counts, codes, axis=1)
        lost = [~weights[:, films].any(axis=1) for films in (positive, ~positive) if films.any()]
        kept = ~np.any(lost, axis=0)
        chunks.append({name: values[kept] for name, values in metrics(weights).items()})
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in METRICS}


def _draw(rng: np.random.Generator, n_rows: int, n_groups: int) -> NDArray[np.float64]:
    """How often each group is drawn when as many are drawn as there are, float64 [n_rows, n_groups]."""
    drawn = rng.integers(n_groups, size=(n_rows, n_groups))
    drawn += n_groups * np.arange(n_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_rows * n_groups).reshape(n_rows, n_groups).astype(np.float64)
