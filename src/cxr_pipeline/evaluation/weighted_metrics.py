"""Metrics of one set of images under many weightings at once, for the bootstrap."""

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.evaluation.metrics import confusion_rates, equal_mass_bins


class WeightedMetrics:
    """The metrics of one set of images, given by decreasing probability, as a function of their weights."""

    def __init__(
        self, positive: NDArray[np.bool_], probability: NDArray[np.float64], predicted: NDArray[np.bool_]
    ) -> None:
        n_images = len(positive)
        new_value = np.flatnonzero(np.diff(probability)) + 1
        self._positives = np.flatnonzero(positive)
        starts = np.concatenate(([0], new_value))
        ends = np.concatenate((new_value, [n_images]))
        step = np.searchsorted(starts, self._positives, side="right") - 1
        # Only steps of the ROC curve with a positive image contribute to AUC and average precision.
        steps, self._first_positive = np.unique(step, return_index=True)
        self._starts, self._ends = starts[steps], ends[steps]
        self._predicted = np.flatnonzero(predicted)
        self._predicted_positives = np.flatnonzero(predicted & positive)
        self._gap = positive - probability
        self._squared_error = self._gap**2
        bins = equal_mass_bins(probability)
        self._bin_starts = np.flatnonzero(np.diff(bins, prepend=-1))

    def __call__(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Compute the ``METRICS``, float64 [replicates], for every row of weights [replicates, n], at least 0.

        They are NaN where undefined. ``ece`` uses the bins of the unweighted images.
        """
        upto = np.zeros((len(weights), weights.shape[1] + 1))
        np.cumsum(weights, axis=1, out=upto[:, 1:])
        positives = weights[:, self._positives]
        total, n_positive = upto[:, -1], positives.sum(1)
        true_positive = weights[:, self._predicted_positives].sum(1)
        false_positive = weights[:, self._predicted].sum(1) - true_positive
        n_negative = total - n_positive
        values = confusion_rates(true_positive, false_positive, n_positive - true_positive, n_negative - false_positive)
        with np.errstate(invalid="ignore", divide="ignore"):
            values["auc"], values["average_precision"] = self._areas(upto, positives, n_positive, n_negative)
            values["brier"] = (weights * self._squared_error).sum(1) / total
        values["ece"] = self.calibration_error(weights)
        return values

    def calibration_error(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute ``ece`` with the bins of the unweighted images, float64 [replicates]; NaN where all weights are 0."""
        gaps = np.add.reduceat(weights * self._gap, self._bin_starts, axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(gaps).sum(1) / weights.sum(1))

    def _areas(
        self,
        upto: NDArray[np.float64],
        positives: NDArray[np.float64],
        n_positive: NDArray[np.float64],
        n_negative: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
