"""Calibration and threshold in one: what turns a network's score into a decision.

It is fitted on validation films only, frozen with the model, and applied to test films and new ones alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.calibration import Calibration, calibration_from_dict, fit_calibration
from cxr_pipeline.metrics import known_films
from cxr_pipeline.thresholds import policy_from


@dataclass(frozen=True)
class DecisionRule:
    """A frozen decision rule of a binary task.

    Args:
        classes: the negative class and the positive one, whose probability the model gives.
        calibration: from score to probability.
        threshold: a film is of the positive class where its probability is at least this.
        policy: the rule that chose the threshold and its values.
        met: whether the policy got what it asked for.
        message: what the threshold reaches on the validation films, and what is to be known about the fit.
        n_films: validation films with a known label.
        n_positive: those among them of the positive class.
    """

    classes: tuple[str, str]
    calibration: Calibration
    threshold: float
    policy: Mapping[str, Any]
    met: bool
    message: str
    n_films: int
    n_positive: int

    def apply(self, y_score: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        """Decide on films.

        Args:
            y_score: [...], the network's sigmoid output in [0, 1].

        Returns:
            The probability of the positive class, float64, and the name of the class decided for, both of
            the shape of ``y_score``.
        """
        probability = self.calibration.apply(y_score)
        return probability, np.array(self.classes)[(probability >= self.threshold).astype(np.intp)]

    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""
        return {
            "classes": list(self.classes),
            "thresholds": {self.classes[-1]: self.threshold},
            "calibration": self.calibration.to_dict(),
            "policy": dict(self.policy),
            "policy_met": self.met,
            "message": self.message,
            "fitted_on": {"split": "validation", "n_films": self.n_films, "n_positive": self.n_positive},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule that decides on every film as the one that was saved."""
        negative, positive = values["classes"]
        return cls(
            classes=(negative, positive),
            calibration=calibration_from_dict(values["calibration"]),
            threshold=float(values["thresholds"][positive]),
            policy=dict(values["policy"]),
            met=values["policy_met"],
            message=values["message"],
            n_films=values["fitted_on"]["n_films"],
            n_positive=values["fitted_on"]["n_positive"],
        )


def fit_decision_rule(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    classes: Sequence[str],
    calibration: str,
    policy: Mapping[str, Any],
) -> DecisionRule:
    """Fit calibration and threshold to validation films.

    Args:
        y_true: [n], 1 for the last class, 0 for the first; films with NaN are left out.
        y_score: [n], the network's sigmoid output in [0, 1].
        classes: the negative class, then the positive one.
        calibration: see :func:`cxr_pipeline.calibration.fit_calibration`.
        policy: ``rule`` and its values, see :func:`cxr_pipeline.thresholds.policy_from`.

    Raises:
        UserError: the model gave NaN.
        ValueError: there are not two classes, or a name or value is unknown.
    """
    if len(classes) != 2:
        raise ValueError(f"A binary rule needs two classes. Received: classes={classes!r}")
    positive, scores = known_films(y_true, y_score)
    fitted = fit_calibration(calibration, positive, scores)
    chosen_by = policy_from(**policy)
    choice = chosen_by.choose(positive, fitted.apply(scores))
    return DecisionRule(
        classes=(classes[0], classes[1]),
        calibration=fitted,
        threshold=choice.threshold,
        policy=chosen_by.to_dict(),
        met=choice.met,
        message=" ".join(filter(None, (choice.message, fitted.message))),
        n_films=len(scores),
        n_positive=int(positive.sum()),
    )
