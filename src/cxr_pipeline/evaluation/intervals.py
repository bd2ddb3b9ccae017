"""Confidence intervals of metrics in [0, 1], from the effective number of patients.

Every interval is that of a proportion (Wilson) among an effective number of independent observations. That number
follows from the variance of the metric between patients. If only a few patients tell anything about the variance, as
when almost all decisions are correct, it is drawn towards the number that assumes that all images of a patient have the
same result. An interval therefore never shrinks to a point.

References:
    Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22, 1927.
    Brown, Cai, DasGupta, "Interval estimation for a binomial proportion", Stat. Science 16, 2001, section 4.1.
    Kish, "Survey sampling", 1965, for the effective number.
    Zou, Donner, "Construction of confidence limits about effect measures", Stat. Med. 27, 2008, for means.
    Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology
    143, 1982, Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997, and Boyd, Eng,
    Page, "Area under the precision-recall curve", ECML PKDD 2013, for AUC and average precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

from cxr_pipeline.data.splits import effective_number
from cxr_pipeline.evaluation.metrics import Floats, Indices, SortedImages

# As in ``metrics.json``: ``value``, ``low``, ``high``, and ``too_few_patients`` where there is no interval.
Interval = dict[str, float | int | None]
UNDEFINED: Interval = {"value": None, "low": None, "high": None}

# The weight of the assumption that all images of a patient have the same result, in patients. Chosen by simulation.
PRIOR_PATIENTS = 3.0
# With fewer patients of either class, AUC and average precision have no interval.
FEWEST_PATIENTS = 5
ROUNDING = 1e-12


class Patients:
    """The patients of n images: their numbers from 0, int [n], and how many there are, including those without one."""

    def __init__(self, codes: Indices, n_patients: int | None = None) -> None:
        self.codes = codes
        self._n_patients = int(codes.max(initial=-1)) + 1 if n_patients is None else n_patients

    def __getitem__(self, images: Indices) -> "Patients":
        """Return the patients of some images, among the same patients."""
        return Patients(self.codes[images], self._n_patients)

    def sum(self, values: Floats | NDArray[np.bool_]) -> Floats:
        """Return the sum of a value of the images [n] for each patient, float64 [patients]."""
        return np.bincount(self.codes, weights=values, minlength=self._n_patients).astype(np.float64, copy=False)


def number_patients(ids: ArrayLike | None, images: Indices) -> Patients:
    """Number the patients of some images [m], ordered by id; an image without a patient gets its own number.

    ``ids`` has the patient of each image, null if unknown, or is None; ``images`` are indices of it.
    """
    alone = np.arange(len(images))
    if ids is None:
        return Patients(alone)
    codes, distinct = pd.factorize(np.asarray(ids, dtype=object)[images], sort=True)
    unknown = codes == -1
    codes[unknown] = len(distinct) + np.arange(unknown.sum())
    return Patients(codes if len(np.unique(codes)) < len(images) else alone)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric with its interval.

    Args:
        influence: float64 [patients], the contribution of each patient to the deviation of the value.
        members: float64 [patients], the number of images of each patient that the metric is computed on.
        informative: effective number of patients, minus one, that tell about the variance.
        too_few: number of patients, if it is too small for an interval.
    """

    value: float
    low: float
    high: float
    influence: Floats
    members: Floats
    informative: float
    too_few: int | None = None


def wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Compute Wilson's interval of a proportion among ``n`` independent observations, which need not be an integer.

    Wilson's interval covers too rarely for proportions close to 0 or 1, where Brown, Cai and DasGupta replace one of
    its ends by a one-sided limit. Here it is the wider of Wilson's and the one-sided limit of Clopper and Pearson.

    Example:
        >>> [round(end, 3) for end in wilson(0.5, 20, 0.95)], [round(end, 3) for end in wilson(1.0, 20, 0.95)]
        ([0.299, 0.701], [0.839, 1.0])
    """
    return _lower(value, n, confidence), max(value, 1 - _lower(1 - value, n, confidence))


def _lower(value: float, n: float, confidence: float) -> float:
    if value <= 0:
        return 0.0
    z = ndtri((1 + confidence) / 2)
    half = z * np.sqrt(value * (1 - value) / n + (z / (2 * n)) ** 2)
    wilson_limit = (value + z**2 / (2 * n) - half) / (1 + z**2 / n)
    one_sided = betaincinv(value * n, (1 - value) * n + 1, 1 - confidence)
    return max(0.0, float(min(wilson_limit, one_sided, value)))


def estimate(
    value: float, influence: Floats, members: Floats, *, parts: Sequence[Floats], n_equal: float, confidence: float
) -> Estimate:
    """Compute the interval of a metric in [0, 1] with this value; see `Estimate` for ``influence`` and ``members``.

    ``parts``, [patients] each, are how much each patient raises and lowers the metric; where only a few patients do one
    of these, the variance is uncertain. ``n_equal`` is the effective number of observations if all images of a patient
    have the same result.
    """
    informative = max(0.0, min(effective_number(part) for part in parts) - 1)
    inverse = 1 / n_equal
    if informative > 0 and 0 < value < 1:
        measured = float(np.square(influence).sum()) / (value * (1 - value))
        inverse = (informative * measured + PRIOR_PATIENTS * inverse) / (informative + PRIOR_PATIENTS)
    low, high = wilson(value, 1 / inverse, confidence)
    return Estimate(value, low, high, influence, members, informative)


def estimate_share(gained: Floats, members: Floats, confidence: float) -> Estimate | None:
    """Estimate a share of images, or a mean of values in [0, 1]; None without images.

    ``gained`` is the sum of the values of the images of each patient, float64 [patients], ``members`` their number.
    """
    total = members.sum()
    if not total:
        return None
    # A sum of values just below 1 can round to more than the number of images.
    value = min(1.0, gained.sum() / total)
    influence = (gained - value * members) / total
    parts = (gained, np.maximum(members - gained, 0))
    n_equal = effective_number(members)
    return estimate(value, influence, members, parts=parts, n_equal=n_equal, confidence=confidence)


def mean_estimate(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Estimate the mean of metrics, ignoring those that are None; None if there are no others.

    The distances of the limits from the values are combined like standard errors (MOVER). The correlation of two
    metrics follows from the influence of the patients. Like variances, it is drawn towards that of equal images of a
    patient, and it is not taken to be negative. Only a mean of metrics that all have too few patients has too few.
    """
    defined = [each for each in estimates if each is not None]
    if len(defined) < 2:
        return defined[0] if defined else None
    values, lows, highs = np.array([(each.value, each.low, each.high) for each in defined]).T
    influence, members = (np.stack([getattr(each, name) for each in defined]) for name in ("influence", "members"))
    # Without any deviation between patients, the influence is rounding error, and its correlation means nothing.
    informative = np.array([each.informative * (np.abs(each.influence).max() > ROUNDING) for each in defined])
    least = np.minimum(informative[:, None], informative)
    weighted = least * _cosines(influence) + PRIOR_PATIENTS * _cosines(members)
    correlation = np.clip(weighted / (least + PRIOR_PATIENTS), 0, 1)
    np.fill_diagonal(correlation, 1)
    value = float(values.mean())
    below, above = (np.sqrt(gap @ correlation @ gap) / len(defined) for gap in (values - lows, highs - values))
    counts = [each.too_few for each in defined if each.too_few is not None]
    return Estimate(
        value,
        max(0.0, value - float(below)),
        min(1.0, value + float(above)),
        influence.mean(axis=0),
        members.sum(axis=0),
        float(informative.min()),
        max(counts) if len(counts) == len(defined) else None,
    )


def measure_mean(values: ArrayLike, ids: ArrayLike | None, *, confidence: float, smallest: float = 0.0) -> Interval:
    """Compute the mean of a number over images, with an interval clustered by patient; null without images.

    The values [n] lie between ``smallest`` and 1; NaN is left out. ``ids`` [n] has the patient of each image, null for
    a patient with one image, or is None if each image is a patient. ``confidence`` lies in (0, 1).

    Example:
        >>> measured = measure_mean([1, 1, 1], ["a", "a", "b"], confidence=0.95)
        >>> measured["value"], round(measured["low"], 2), measured["high"]
        (1.0, 0.19, 1.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")[: np.count_nonzero(~np.isnan(numbers))]
    patients = number_patients(ids, order)
    shares = (numbers[order] - smallest) / (1 - smallest)
    found = estimate_share(patients.sum(shares), patients.sum(np.ones_like(shares)), confidence)
    if found is None:
        return dict(UNDEFINED)
    low, high = (smallest + (1 - smallest) * end for end in (found.low, found.high))
    return {"value": float(numbers[order].mean()), "low": low, "high": high}


def _cosines(rows: Floats) -> Floats:
    """Return the cosine of the angle between any two rows; 0 for a row of zeros."""
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(units @ units.T)


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
