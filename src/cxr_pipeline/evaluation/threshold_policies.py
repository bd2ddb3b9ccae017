"""Policies that choose the threshold at or above which an image is predicted positive."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.operating_points import ROUNDING, ChosenThreshold, OperatingPoints

FloatArray = NDArray[np.float64]
# The configuration checks these bounds.
Rate = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]

FALLBACK = 0.5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Policy(ABC):
    """The criterion by which a threshold is chosen."""

    rule: ClassVar[str]

    def choose(self, y_true: ArrayLike, probability: ArrayLike) -> ChosenThreshold:
        """Choose a threshold on validation images.

        If the policy cannot be met, the threshold is the closest one; if all images belong to one class, it is
        ``FALLBACK``. In both cases ``policy_met`` is false and the message says why.

        Args:
            y_true: [n], 1 positive, 0 negative; images with NaN are left out.
            probability: [n], calibrated, in [0, 1].
        """
        positive, probability = known_images(y_true, probability)
        if positive.all() or not positive.any():
            return self._without_classes(int(positive.sum()), int((~positive).sum()))
        return self._choose(OperatingPoints(positive, probability))

    def to_dict(self) -> dict[str, Any]:
        """Return the rule and its values as in the configuration."""
        return {"rule": self.rule, **asdict(self)}

    @abstractmethod
    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        """Choose one of the operating points."""

    def _without_classes(self, n_positive: int, n_negative: int) -> ChosenThreshold:
        message = (
            f"The policy {self.rule!r} needs validation images of both classes, found {n_positive} positive and "
            f"{n_negative} negative. The threshold is set to {FALLBACK}."
        )
        return ChosenThreshold(FALLBACK, policy_met=False, message=message)


@dataclass(frozen=True)
class Fixed(Policy):
    """A given threshold."""

    rule: ClassVar[str] = "fixed"
    value: Rate

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        index = int((points.values >= self.value).sum())
        return ChosenThreshold(self.value, policy_met=True, message=points.describe(index, self.value))

    def _without_classes(self, n_positive: int, n_negative: int) -> ChosenThreshold:
        message = (
            f"Found {n_positive} positive and {n_negative} negative validation images: sensitivity and specificity at "
            "this threshold are unknown."
        )
        return ChosenThreshold(self.value, policy_met=True, message=message)


@dataclass(frozen=True)
class Youden(Policy):
    """The largest sum of sensitivity and specificity (Youden, "Index for rating diagnostic tests", Cancer 3, 1950)."""

    rule: ClassVar[str] = "youden"

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        return _optimise(points, "J", points.sensitivity + points.specificity - 1)


@dataclass(frozen=True)
class TargetSensitivity(Policy):
    """The largest specificity among the operating points that reach a sensitivity."""

    rule: ClassVar[str] = "target_sensitivity"
    value: Rate

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        return _reach(points, self.value, "sensitivity", "specificity")


@dataclass(frozen=True)
class TargetSpecificity(Policy):
    """The largest sensitivity among the operating points that reach a specificity."""

    rule: ClassVar[str] = "target_specificity"
    value: Rate

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        return _reach(points, self.value, "specificity", "sensitivity")


@dataclass(frozen=True)
class FBeta(Policy):
    """The largest F-beta score: sensitivity counts ``beta`` times as much as precision.

    See van Rijsbergen, "Information retrieval", 1979, chapter 7.
    """

    rule: ClassVar[str] = "f_beta"
    beta: Positive

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        gain = (1 + self.beta**2) * points.true_positives
        missed = self.beta**2 * (points.n_positive - points.true_positives)
        return _optimise(points, f"F{self.beta:g}", gain / (gain + missed + points.false_positives))


@dataclass(frozen=True)
class Cost(Policy):
    """The lowest expected cost of wrong predictions at the prevalence of the validation images.

    See Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
    """

    rule: ClassVar[str] = "cost"
    false_negative: Positive
    false_positive: Positive

    def _choose(self, points: OperatingPoints) -> ChosenThreshold:
        missed = self.false_negative * (points.n_positive - points.true_positives)
        largest = self.false_negative * points.n_positive + self.false_positive * points.n_negative
        return _optimise(points, "saving", 1 - (missed + self.false_positive * points.false_positives) / largest)


POLICIES: dict[str, type[Policy]] = {
    policy.rule: policy for policy in (Fixed, Youden, TargetSensitivity, TargetSpecificity, FBeta, Cost)
}


def policy_from(rule: str, **values: float) -> Policy:
    """Create the policy of a configuration block: a key of ``POLICIES``, and the arguments of that policy.

    Raises:
        ValueError: the rule is unknown.

    Example:
        >>> policy_from("target_sensitivity", value=0.95)
        TargetSensitivity(value=0.95)
    """
    if rule not in POLICIES:
        raise ValueError(f"A policy must be one of {', '.join(POLICIES)}. Received: rule={rule!r}")
    return POLICIES[rule](**values)


def _optimise(points: OperatingPoints, name: str, objective: FloatArray) -> ChosenThreshold:
    """Choose the point with the largest objective, [k], if it is better than the same prediction for every image."""
    index = points.best(objective)
    constant = 0 if objective[0] > objective[-1] else len(objective) - 1
    if objective[index] > objective[constant] + ROUNDING:
        return points.choose(index)
    if not points.mixed.any():
        return points.choose(
            index, "No threshold separates the images: all validation images have the same probability."
        )
    mixed = points.best(objective, among=points.mixed)
    return points.choose(
        index,
        f"No threshold is better than the same prediction for every image: the largest {name} with both predictions is "
        f"{objective[mixed]:.3f}, against {objective[constant]:.3f} if every image is predicted "
        f"{points.prediction(constant)}.",
    )


def _reach(points: OperatingPoints, target: float, name: str, other_name: str) -> ChosenThreshold:
    """Choose the point with the largest other rate among those where the named rate reaches the target."""
    rates = {"sensitivity": points.sensitivity, "specificity": points.specificity}
    rate, other = rates[name], rates[other_name]
    warning = _few_images(points, target, name)
    index = points.best(other, rate, among=rate >= target)
    if other[index] > 0:
        return points.choose(index, warning=warning)
    useful = (rate > 0) & (other > 0)
    reason = f"A {name} of {target:g} cannot be met: every threshold that reaches it has a {other_name} of 0."
    if not useful.any():
        return points.choose(index, reason, "No threshold separates the images.", warning=warning)
    closest = points.best(rate, other, among=useful)
    return points.choose(closest, reason, f"The closest is {target - rate[closest]:.3f} below.", warning=warning)


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
