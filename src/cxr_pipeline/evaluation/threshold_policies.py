"""Policies that choose the threshold at or above which an image is predicted positive."""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images

FloatArray = NDArray[np.float64]

FALLBACK = 0.5
CONFIDENCE = 0.95
ROUNDING = 1e-12


@dataclass(frozen=True)
class Threshold:
    """A threshold, chosen on ``n_images`` validation images, ``n_positive`` of them positive.

    Args:
        threshold: images with at least this probability are predicted positive.
        policy_met: whether the policy reached its target.
        message: sensitivity and specificity on the validation images, and why a policy was not met.
    """

    threshold: float
    policy_met: bool
    message: str
    n_images: int
    n_positive: int


def choose_threshold(y_true: ArrayLike, probability: ArrayLike, *, rule: str, value: float = FALLBACK) -> Threshold:
    """Choose a threshold on validation images.

    If the policy cannot be met, the threshold is the closest one; if all images belong to one class, it is
    ``FALLBACK``. In both cases ``policy_met`` is false and the message says why.

    Args:
        y_true: [n], 1 positive, 0 negative; images with NaN are left out.
        probability: [n], calibrated, in [0, 1].
        rule: ``fixed`` for a given threshold; ``youden`` for the largest sum of sensitivity and specificity (Youden,
            "Index for rating diagnostic tests", Cancer 3, 1950); ``target_sensitivity`` for the largest specificity
            among the operating points that reach a sensitivity, and ``target_specificity`` for the reverse.
        value: the fixed threshold, or the target.

    Example:
        >>> choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], rule="target_sensitivity", value=0.5).threshold
        0.4
    """
    positive, probability = known_images(y_true, probability)
    counts = len(positive), int(positive.sum())
    if positive.all() or not positive.any():
        found = f"{counts[1]} positive and {counts[0] - counts[1]} negative"
        if rule == "fixed":
            message = f"Found {found} validation images: sensitivity and specificity at this threshold are unknown."
            return Threshold(value, True, message, *counts)
        message = f"The policy needs validation images of both classes, found {found}."
        return Threshold(FALLBACK, False, f"{message} The threshold is set to {FALLBACK}.", *counts)
    points = OperatingPoints(positive, probability)
    if rule == "fixed":
        index = int((points.values >= value).sum())
        return Threshold(value, True, points.describe(index, value), *counts)
    index, reasons, warning = _maximise_youden(points) if rule == "youden" else _reach_target(points, rule, value)
    message = " ".join(filter(None, (*reasons, points.describe(index, points.thresholds[index]), warning)))
    return Threshold(float(points.thresholds[index]), not reasons, message, *counts)


class OperatingPoints:
    """All operating points of an output, from the highest threshold to the lowest.

    They follow from labels of both classes, bool [n], and probabilities in [0, 1], float64 [n]. Thresholds between the
    same two neighbouring probabilities give the same decisions, so that one per gap is enough: the middle of the gap.

    Attributes:
        values: float64 [k - 1], the distinct probabilities, decreasing.
        thresholds: float64 [k], above, between and below them.
        gaps: float64 [k], the distance between the neighbouring probabilities.
        sensitivity, specificity: float64 [k].
        mixed: bool [k], whether some images are predicted positive and some negative.
    """

    def __init__(self, positive: NDArray[np.bool_], probability: FloatArray) -> None:
        negated, value_of = np.unique(-probability, return_inverse=True)
        self.values = values = -negated
        n_predicted = np.concatenate(([0], np.bincount(value_of).cumsum()))
        true_positives = np.concatenate(([0], np.bincount(value_of, weights=positive).cumsum()))
        self.n_positive, self.n_negative = int(positive.sum()), int((~positive).sum())
        self.sensitivity = true_positives / self.n_positive
        self.specificity = (self.n_negative - (n_predicted - true_positives)) / self.n_negative
        self.mixed = (n_predicted > 0) & (n_predicted < len(positive))
        above, below = np.concatenate(([1.0], values)), np.concatenate((values, [0.0]))
        middle = (above + below) / 2
        # The middle of two neighbouring floats can round down to the lower one, which is then predicted positive.
        self.thresholds = np.where(middle > below, middle, above)
        if values[0] == 1:
            self.thresholds[0] = np.nextafter(1.0, 2.0)
        self.gaps = above - below

    def best(self, *objectives: ArrayLike, among: NDArray[np.bool_] | None = None) -> int:
        """Return the index of the point with the largest first objective; ties are resolved by the next objective.

        Among points that tie in all objectives, those with both decisions come first, then the widest gap, because the
        fewest new images lie close to such a threshold, then the lowest threshold, because a missed finding is the
        worse error. Objectives are [k]; ``among``, bool [k], are the allowed points.
        """
        candidates = np.flatnonzero(np.ones(len(self.gaps), dtype=bool) if among is None else among)
        for objective in (*objectives, self.mixed, self.gaps):
            values = np.asarray(objective, dtype=np.float64)[candidates]
            candidates = candidates[values >= values.max() - ROUNDING * max(1.0, abs(values.max()))]
        return int(candidates[-1])

    def describe(self, index: int, threshold: float) -> str:
        """Describe a point in a sentence; the threshold is any one in its gap."""
        sentence = (
            f"At {threshold:.4g} sensitivity is {self.sensitivity[index]:.3f} and specificity "
            f"{self.specificity[index]:.3f} on {self.n_positive} positive and {self.n_negative} negative validation "
            "images."
        )
        if self.mixed[index]:
            return sentence
        return f"{sentence} Every image is predicted {'positive' if self.sensitivity[index] else 'negative'}."


# A point, the reasons why the policy is not met, and a warning or an empty string.
Choice = tuple[int, tuple[str, ...], str]


def _maximise_youden(points: OperatingPoints) -> Choice:
    """Choose the point with the largest J if it is better than the same prediction for every image, with a J of 0."""
    youden = points.sensitivity + points.specificity - 1
    index = points.best(youden)
    if youden[index] > ROUNDING:
        return index, (), ""
    if not points.mixed.any():
        return index, ("No threshold separates the images: all validation images have the same probability.",), ""
    highest = youden[points.mixed].max()
    reason = (
        "No threshold is better than the same prediction for every image: with both predictions, sensitivity and "
        f"specificity add up to {1 + highest:.3f} at most."
    )
    return index, (reason,), ""


def _reach_target(points: OperatingPoints, rule: str, target: float) -> Choice:
    """Choose the point with the largest other rate among those where the named rate reaches the target."""
    name, other_name = ("sensitivity", "specificity")[:: 1 if rule == "target_sensitivity" else -1]
    rate, other = getattr(points, name), getattr(points, other_name)
    warning = _few_images(points, target, name)
    index = points.best(other, rate, among=rate >= target)
    if other[index] > 0:
        return index, (), warning
    useful = (rate > 0) & (other > 0)
    reason = f"A {name} of {target:g} cannot be met: every threshold that reaches it has a {other_name} of 0."
    if not useful.any():
        return index, (reason, "No threshold separates the images."), warning
    closest = points.best(rate, other, among=useful)
    return closest, (reason, f"The closest is {target - rate[closest]:.3f} below."), warning


def _few_images(points: OperatingPoints, target: float, name: str) -> str:
    """Return a warning if there are too few images to show that a rate reaches its target.

    Even if all n images are predicted correctly, the lower confidence limit of the rate is ``(1 - confidence) ** (1 /
    n)``. See Hanley, Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983.
    """
    n_images, label = (points.n_positive, "positive") if name == "sensitivity" else (points.n_negative, "negative")
    lowest = (1 - CONFIDENCE) ** (1 / n_images)
    if lowest >= target:
        return ""
    needed = "no number of images would be" if target >= 1 else f"{ceil(log(1 - CONFIDENCE) / log(target))} would be"
    return (
        f"{n_images} {label} validation images are not enough to show a {name} of {target:g}: even if all were "
        f"predicted correctly, it could be as low as {lowest:.3f} ({CONFIDENCE:.0%} confidence); {needed} enough."
    )
