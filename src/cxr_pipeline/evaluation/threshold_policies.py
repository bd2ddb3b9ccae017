"""Policies that choose the threshold above which an image is called positive."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from math import ceil, log
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.operating_points import ROUNDING, ChosenThreshold, Cuts

FloatArray = NDArray[np.float64]

FALLBACK = 0.5
EVIDENCE = 0.95


@dataclass(frozen=True)
class Policy(ABC):
    """What a threshold is chosen for."""

    rule: ClassVar[str]

    def choose(self, y_true: ArrayLike, probability: ArrayLike) -> ChosenThreshold:
        """Choose a threshold on validation images.

        Args:
            y_true: [n], 1 positive, 0 negative; images with NaN are left out.
            probability: [n], calibrated, in [0, 1].

        Returns:
            The choice. A policy that cannot be met gets the threshold that comes closest, and images of one
            class only get ``FALLBACK``, both with ``met`` false and a message.

        Raises:
            UserError: the model gave NaN.
            ValueError: see :func:`cxr_pipeline.evaluation.metrics.known_images`.
        """
        positive, probability = known_images(y_true, probability)
        if positive.all() or not positive.any():
            return self._without_classes(int(positive.sum()), int((~positive).sum()))
        return self._choose(Cuts(positive, probability))

    def to_dict(self) -> dict[str, Any]:
        """The rule and its values, as in the configuration."""
        return {"rule": self.rule, **asdict(self)}

    @abstractmethod
    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        """Choose where images of both classes are there."""

    def _without_classes(self, n_positive: int, n_negative: int) -> ChosenThreshold:
        message = (
            f"The policy {self.rule!r} needs validation images of both classes, found {n_positive} positive and "
            f"{n_negative} negative. The threshold stays at {FALLBACK}."
        )
        return ChosenThreshold(FALLBACK, met=False, message=message)


@dataclass(frozen=True)
class Fixed(Policy):
    """The threshold itself.

    Args:
        value: in [0, 1].
    """

    rule: ClassVar[str] = "fixed"
    value: float

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        index = int((cuts.values >= self.value).sum())
        return ChosenThreshold(self.value, met=True, message=cuts.describe(index, self.value))

    def _without_classes(self, n_positive: int, n_negative: int) -> ChosenThreshold:
        message = (
            f"Found {n_positive} positive and {n_negative} negative validation images: what it reaches is unknown."
        )
        return ChosenThreshold(self.value, met=True, message=message)


@dataclass(frozen=True)
class Youden(Policy):
    """The largest sum of sensitivity and specificity.

    References:
        Youden, "Index for rating diagnostic tests", Cancer 3, 1950.
    """

    rule: ClassVar[str] = "youden"

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        return _optimise(cuts, "J", cuts.sensitivity + cuts.specificity - 1)


@dataclass(frozen=True)
class TargetSensitivity(Policy):
    """The best specificity among the thresholds that reach this sensitivity.

    Args:
        value: in [0, 1].
    """

    rule: ClassVar[str] = "target_sensitivity"
    value: float

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        choice = _reach(cuts, self.value, ("sensitivity", cuts.sensitivity), ("specificity", cuts.specificity))
        return _with_doubt(choice, self.value, "sensitivity", f"{cuts.n_positive} positive")


@dataclass(frozen=True)
class TargetSpecificity(Policy):
    """The best sensitivity among the thresholds that reach this specificity.

    Args:
        value: in [0, 1].
    """

    rule: ClassVar[str] = "target_specificity"
    value: float

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        choice = _reach(cuts, self.value, ("specificity", cuts.specificity), ("sensitivity", cuts.sensitivity))
        return _with_doubt(choice, self.value, "specificity", f"{cuts.n_negative} negative")


@dataclass(frozen=True)
class FBeta(Policy):
    """The largest F-beta.

    Args:
        beta: above 0; how many times sensitivity counts as much as precision.

    References:
        van Rijsbergen, "Information retrieval", 1979, chapter 7.
    """

    rule: ClassVar[str] = "f_beta"
    beta: float

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        found = (1 + self.beta**2) * cuts.true_positives
        missed = self.beta**2 * (cuts.n_positive - cuts.true_positives)
        return _optimise(cuts, f"F{self.beta:g}", found / (found + missed + cuts.false_positives))


@dataclass(frozen=True)
class Cost(Policy):
    """The smallest cost of mistakes at the prevalence of the validation images.

    Args:
        false_negative: cost of a positive image called negative, above 0.
        false_positive: cost of a negative image called positive, above 0.

    References:
        Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
    """

    rule: ClassVar[str] = "cost"
    false_negative: float
    false_positive: float

    def _choose(self, cuts: Cuts) -> ChosenThreshold:
        missed = self.false_negative * (cuts.n_positive - cuts.true_positives)
        largest = self.false_negative * cuts.n_positive + self.false_positive * cuts.n_negative
        return _optimise(cuts, "saving", 1 - (missed + self.false_positive * cuts.false_positives) / largest)


POLICIES: dict[str, type[Policy]] = {
    kind.rule: kind for kind in (Fixed, Youden, TargetSensitivity, TargetSpecificity, FBeta, Cost)
}


def policy_from(rule: str, **values: float) -> Policy:
    """The policy of a configuration block.

    Args:
        rule: one of ``POLICIES``.
        values: what that policy needs.

    Raises:
        ValueError: the rule is unknown.

    Example:
        >>> policy_from("target_sensitivity", value=0.95)
        TargetSensitivity(value=0.95)
    """
    if rule not in POLICIES:
        raise ValueError(f"A policy must be one of {', '.join(POLICIES)}. Received: rule={rule!r}")
    return POLICIES[rule](**values)


def _optimise(cuts: Cuts, name: str, objective: FloatArray) -> ChosenThreshold:
    """The cut with the largest objective, met if it beats the same answer for every image.

    Args:
        cuts: the k cuts.
        name: what the objective is called.
        objective: [k], at most 1.
    """
    index = cuts.best(objective)
    same_answer = 0 if objective[0] > objective[-1] else len(objective) - 1
    if objective[index] > objective[same_answer] + ROUNDING:
        return cuts.choose(index)
    if not cuts.mixed.any():
        return cuts.choose(index, "No threshold tells images apart: all validation images have the same probability.")
    mixed = cuts.best(objective, among=cuts.mixed)
    return cuts.choose(
        index,
        f"No threshold does better than the same answer for every image: the largest {name} with both answers is "
        f"{objective[mixed]:.3f}, against {objective[same_answer]:.3f} when every image is called "
        f"{cuts.answer(same_answer)}.",
    )


def _reach(cuts: Cuts, target: float, wanted: tuple[str, FloatArray], paid: tuple[str, FloatArray]) -> ChosenThreshold:
    """The cut with the largest rate that is paid with, among those where the wanted rate reaches the target."""
    (name, rate), (price, left) = wanted, paid
    index = cuts.best(left, rate, among=rate >= target)
    if left[index] > 0:
        return cuts.choose(index)
    useful = (rate > 0) & (left > 0)
    reason = f"A {name} of {target:g} cannot be met: every threshold that reaches it has a {price} of 0."
    if not useful.any():
        return cuts.choose(index, reason, "No threshold tells images apart.")
    closest = cuts.best(rate, left, among=useful)
    return cuts.choose(closest, reason, f"The closest is {target - rate[closest]:.3f} short.")


def _with_doubt(choice: ChosenThreshold, target: float, name: str, images: str) -> ChosenThreshold:
    """Add to the message that the images are too few to show the target, if they are.

    Args:
        choice: what was chosen.
        target: the rate asked for.
        name: of the rate.
        images: how many of which class, such as ``"20 positive"``.

    References:
        Hanley, Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983.
    """
    n_images = int(images.split()[0])
    lowest = (1 - EVIDENCE) ** (1 / n_images)
    if lowest >= target:
        return choice
    needed = "No number of images could" if target >= 1 else f"{ceil(log(1 - EVIDENCE) / log(target))} or more could"
    doubt = (
        f"{images} validation images cannot show a {name} of {target:g}: were all of them right, it might still be as "
        f"low as {lowest:.3f} ({EVIDENCE:.0%} confidence). {needed}."
    )
    return replace(choice, message=f"{choice.message} {doubt}")
