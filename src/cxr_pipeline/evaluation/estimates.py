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
from cxr_pipeline.evaluation.metrics import SortedImages

# With fewer patients of either class, AUC and average precision have no interval.
FEWEST_PATIENTS = 5


def estimate_metrics(images: SortedImages, patients: Patients, confidence: float) -> dict[str, Estimate | None]:
    """Estimate the metrics of one output, except ``ece``, from its images and their patients; None where undefined.

    AUC and average precision are marked if fewer than ``FEWEST_PATIENTS`` have an image of either class.
    """
    positive, probability, predicted = images.positive, images.probability, images.predicted
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
        found |= _estimate_areas(positive, probability, patients, confidence)
    return found


def _f1_of_jaccard(jaccard: Estimate | None) -> Estimate | None:
    """F1 is an increasing function of the share of true positives among images that are or are predicted positive."""
    if jaccard is None:
        return None
    value, low, high = (2 * share / (1 + share) for share in (jaccard.value, jaccard.low, jaccard.high))
    return replace(jaccard, value=value, low=low, high=high)


def _estimate_areas(
    positive: NDArray[np.bool_], probability: Floats, patients: Patients, confidence: float
) -> dict[str, Estimate]:
    """Estimate AUC and average precision from images of both classes; images of equal probability share a step."""
    sides = positive, ~positive
    step = np.cumsum(np.diff(probability, prepend=np.inf) != 0) - 1
    positives, negatives = (np.bincount(step, weights=side) for side in sides)
    n_positive, n_negative = positives.sum(), negatives.sum()
    members = [patients.sum(side) for side in sides]
    n_patients = min(int(np.count_nonzero(each)) for each in members)
    too_few = n_patients if n_patients < FEWEST_PATIENTS else None

    # The influence of an image on the AUC is the share of the other class that it beats.
    negatives_below = n_negative - np.cumsum(negatives) + negatives / 2
    positives_above = np.cumsum(positives) - positives / 2
    won = np.where(positive, (negatives_below / n_negative)[step], (positives_above / n_positive)[step])
    value = float(won[positive].mean())
    influence = patients.sum((won - value) / np.where(positive, n_positive, n_negative))
    parts = [patients.sum(each * side) for each in (won, 1 - won) for side in sides]
    n_equal = _hanley_mcneil(value, *(effective_number(each) for each in members))
    auc = estimate(value, influence, members[0], parts=parts, n_equal=n_equal, confidence=confidence)

    # That on the average precision is the derivative by the weight of the image, which lowers the precision of its own
    # and of all later steps; a positive image raises it.
    found = np.cumsum(positives)
    predicted = found + np.cumsum(negatives)
    precision = found / predicted
    value = float((positives * precision).sum() / n_positive)
    lowered, raised = (np.cumsum((positives * change / predicted)[::-1])[::-1] for change in (precision, 1 - precision))
    change = np.where(positive, (precision - value + raised)[step], -lowered[step])
    own = positive * precision[step]
    parts = [patients.sum(own), patients.sum(positive - own)]
    n_equal = effective_number(members[0])
    influence = patients.sum(change / n_positive)
    average_precision = estimate(value, influence, members[0], parts=parts, n_equal=n_equal, confidence=confidence)
    return {
        "auc": replace(auc, too_few=too_few),
        "average_precision": replace(average_precision, too_few=too_few),
    }


def _hanley_mcneil(auc: float, n_positive: float, n_negative: float) -> float:
    """Return the number of observations for which a proportion has the variance of an AUC of exponential scores."""
    mean = (n_positive + n_negative) / 2
    inflation = 1 + (mean - 1) * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    return n_positive * n_negative / inflation
