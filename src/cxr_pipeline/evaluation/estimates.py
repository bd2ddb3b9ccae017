"""The metrics of one output with their intervals.

References:
    Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology
    143, 1982.
    Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
    Boyd, Eng, Page, "Area under the precision-recall curve: point estimates and confidence intervals", ECML PKDD 2013.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.data.splits import effective_number
from cxr_pipeline.evaluation.intervals import Estimate, Floats, Patients, estimate, estimate_share, mean_estimate

# With fewer patients of either class, AUC and average precision have no interval.
FEWEST_PATIENTS = 5


def estimate_metrics(
    positive: NDArray[np.bool_],
    probability: Floats,
    predicted: NDArray[np.bool_],
    patients: Patients,
    confidence: float,
) -> dict[str, Estimate | None]:
    """Estimate the metrics of one output, except ``ece``; None where undefined.

    Labels, probabilities and decisions are [n], of images sorted by decreasing probability. AUC and average precision
    are marked if fewer than ``FEWEST_PATIENTS`` have an image of either class.
    """
    correct = predicted == positive
    shares = {
        "accuracy": np.ones_like(positive),
        "sensitivity": positive,
        "specificity": ~positive,
        "precision": predicted,
        "f1": positive | predicted,
    }
    found = {
        name: estimate_share(patients.sum(correct & members), patients.sum(members), confidence)
        for name, members in shares.items()
    }
    found["f1"] = _f1_of_jaccard(found["f1"])
    sides = found["sensitivity"], found["specificity"]
    found["balanced_accuracy"] = mean_estimate(sides) if None not in sides else None
    squared_error = patients.sum((positive - probability) ** 2)
    found["brier"] = estimate_share(squared_error, patients.sum(np.ones_like(positive)), confidence)
    if positive.any() and not positive.all():
        ranking = _Ranking(positive, probability, patients)
        found["auc"] = ranking.auc(confidence)
        found["average_precision"] = ranking.average_precision(confidence)
    return found


def _f1_of_jaccard(jaccard: Estimate | None) -> Estimate | None:
    """F1 is an increasing function of the share of true positives among images that are or are predicted positive."""
    if jaccard is None:
        return None
    value, low, high = (2 * share / (1 + share) for share in (jaccard.value, jaccard.low, jaccard.high))
    return replace(jaccard, value=value, low=low, high=high)


class _Ranking:
    """Images of both classes by decreasing probability; images of equal probability share a step."""

    def __init__(self, positive: NDArray[np.bool_], probability: Floats, patients: Patients) -> None:
        self._positive, self._patients = positive, patients
        self._step = np.cumsum(np.diff(probability, prepend=np.inf) != 0) - 1
        sides = (positive, ~positive)
        self._positives, self._negatives = (np.bincount(self._step, weights=side) for side in sides)
        self._members = [patients.sum(side) for side in sides]
        n_patients = min(int(np.count_nonzero(members)) for members in self._members)
        self._too_few = n_patients if n_patients < FEWEST_PATIENTS else None

    def auc(self, confidence: float) -> Estimate:
        """Estimate the AUC; a patient's influence is the mean share of the other class that its images beat."""
        n_positive, n_negative = self._positives.sum(), self._negatives.sum()
        negatives_below = n_negative - np.cumsum(self._negatives) + self._negatives / 2
        positives_above = np.cumsum(self._positives) - self._positives / 2
        beaten, beating = negatives_below / n_negative, positives_above / n_positive
        won = np.where(self._positive, beaten[self._step], beating[self._step])
        size = np.where(self._positive, n_positive, n_negative)
        value = float(won[self._positive].mean())
        sides = (self._positive, ~self._positive)
        return self._estimate(
            value,
            (won - value) / size,
            [self._patients.sum(each * side) for each in (won, 1 - won) for side in sides],
            _hanley_mcneil(value, *(effective_number(members) for members in self._members)),
            confidence,
        )

    def average_precision(self, confidence: float) -> Estimate:
        """Estimate the average precision; a patient's influence is the derivative by the weight of its images."""
        n_positive, found = self._positives.sum(), np.cumsum(self._positives)
        predicted = found + np.cumsum(self._negatives)
        precision = found / predicted
        value = float((self._positives * precision).sum() / n_positive)
        # An image lowers the precision of its own and of all later steps, and a positive one raises it.
        lowered, raised = (
            np.cumsum((self._positives * change / predicted)[::-1])[::-1] for change in (precision, 1 - precision)
        )
        change = np.where(self._positive, (precision - value + raised)[self._step], -lowered[self._step])
        own = self._positive * precision[self._step]
        parts = [self._patients.sum(own), self._patients.sum(self._positive - own)]
        n_equal = effective_number(self._members[0])
        return self._estimate(value, change / n_positive, parts, n_equal, confidence)

    def _estimate(
        self, value: float, influence: Floats, parts: list[Floats], n_equal: float, confidence: float
    ) -> Estimate:
        by_patient = self._patients.sum(influence)
        members = self._members[0]
        found = estimate(value, by_patient, members, parts=parts, n_equal=n_equal, confidence=confidence)
        return replace(found, too_few=self._too_few)


def _hanley_mcneil(auc: float, n_positive: float, n_negative: float) -> float:
    """Return the number of observations for which a proportion has the variance of an AUC of exponential scores."""
    mean = (n_positive + n_negative) / 2
    inflation = 1 + (mean - 1) * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    return n_positive * n_negative / inflation
