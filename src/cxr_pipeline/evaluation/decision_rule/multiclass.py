"""The rule for exclusive classes: one class for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.decision_rule.base import SPLIT, DecisionRule, Decisions, as_labels, as_scores, summary
from cxr_pipeline.evaluation.decision_rule.joint_calibration import (
    JointCalibration,
    fit_joint_calibration,
    joint_calibration_from_dict,
)
from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.operating_points import ChosenThreshold
from cxr_pipeline.evaluation.threshold_policies import policy_from

FloatArray = NDArray[np.float64]

ARGMAX = "argmax"
# A threshold of 0 would call every image of that class.
LOWEST = 1e-6


@dataclass(frozen=True)
class MulticlassRule(DecisionRule):
    """The class whose probability exceeds its threshold by the largest factor.

    With equal thresholds that is the most probable class, which is what the policy ``argmax`` asks for. Another policy
    chooses the threshold of each class against the rest; what it promises for a class alone is not quite what is
    reached, since only one of the classes that exceed their thresholds is decided for.

    Args:
        calibration: from scores to probabilities that sum to one.
        choices: the threshold of each class, in their order, and how it came about.
        n_positive: validation images of each class.
        n_images: validation images with a known class.
    """

    kind: ClassVar[str] = "multiclass"
    calibration: JointCalibration
    choices: tuple[ChosenThreshold, ...]
    n_positive: tuple[int, ...]
    n_images: int

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each class."""
        return {name: choice.threshold for name, choice in zip(self.classes, self.choices, strict=True)}

    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on images, given scores [n, k]; where classes tie, the first is decided for."""
        probability = self.calibration.apply(as_scores(y_score, self.classes))
        limits = np.maximum([choice.threshold for choice in self.choices], LOWEST)
        # Factors that are exactly 1 where the thresholds are equal: rounding must not make a tie.
        decided = (probability * (limits.min() / limits)).argmax(axis=1)
        called = np.arange(len(self.classes)) == decided[:, None]
        return Decisions(probability, called, np.array(self.classes)[decided])

    @classmethod
    def fit(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        classes: Sequence[str],
        calibration: str,
        policy: Mapping[str, Any],
    ) -> Self:
        """Fit to validation images, both arrays [n, k], the labels one-hot."""
        if len(classes) < 2:
            raise ValueError(f"A multiclass rule needs two classes or more. Received: classes={classes!r}")
        true, scores = _checked(y_true, y_score, classes)
        return cls._fitted(tuple(classes), true, scores, fit_joint_calibration(calibration, true, scores), policy)

    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """The same calibration with the thresholds of another policy."""
        return self._fitted(self.classes, *_checked(y_true, y_score, self.classes), self.calibration, policy)

    @classmethod
    def _fitted(
        cls,
        classes: tuple[str, ...],
        true: FloatArray,
        scores: FloatArray,
        calibration: JointCalibration,
        policy: Mapping[str, Any],
    ) -> Self:
        chosen = _choose(true, calibration.apply(scores), policy)
        choices = tuple(
            replace(choice, message=" ".join(filter(None, (choice.message, calibration.about(place)))))
            for place, choice in enumerate(chosen)
        )
        n_positive = tuple(int(count) for count in np.nansum(true, axis=0))
        n_images = int((~np.isnan(true).any(axis=1)).sum())
        return cls(classes, dict(policy), calibration, choices, n_positive, n_images)

    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""
        met = {name: choice.met for name, choice in zip(self.classes, self.choices, strict=True)}
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "thresholds": self.thresholds,
            "calibration": self.calibration.to_dict(),
            "policy": dict(self.policy),
            "policy_met": all(met.values()),
            "message": " ".join(filter(None, (summary(met), self.calibration.message))),
            "per_class": {
                name: {
                    "policy_met": choice.met,
                    "message": choice.message,
                    "n_images": self.n_images,
                    "n_positive": n_positive,
                }
                for name, choice, n_positive in zip(self.classes, self.choices, self.n_positive, strict=True)
            },
            "fitted_on": {"split": SPLIT, "n_images": self.n_images},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from that form."""
        per_class = [values["per_class"][name] for name in values["classes"]]
        choices = tuple(
            ChosenThreshold(float(values["thresholds"][name]), met=found["policy_met"], message=found["message"])
            for name, found in zip(values["classes"], per_class, strict=True)
        )
        return cls(
            tuple(values["classes"]),
            dict(values["policy"]),
            joint_calibration_from_dict(values["calibration"]),
            choices,
            tuple(found["n_positive"] for found in per_class),
            values["fitted_on"]["n_images"],
        )


def _choose(y_true: FloatArray, probability: FloatArray, policy: Mapping[str, Any]) -> tuple[ChosenThreshold, ...]:
    k = int(probability.shape[1])
    if policy["rule"] == ARGMAX:
        return (ChosenThreshold(1 / k, met=True, message="The most probable class is decided for."),) * k
    chosen_by = policy_from(**policy)
    return tuple(chosen_by.choose(y_true[:, place], probability[:, place]) for place in range(k))


def _checked(y_true: ArrayLike, y_score: ArrayLike, classes: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    true, scores = as_labels(y_true, classes), as_scores(y_score, classes)
    for place in range(len(classes)):
        known_images(true[:, place], scores[:, place])
    return true, scores
