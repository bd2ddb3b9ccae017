"""The rule for exclusive classes: one class for each film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.calibration import (
    TEMPERATURES,
    Calibration,
    calibration_from_dict,
    fit_calibration,
)
from cxr_pipeline.cuts import Choice
from cxr_pipeline.decision_rule.rule import SPLIT, DecisionRule, Decisions, as_scores
from cxr_pipeline.errors import UserError
from cxr_pipeline.thresholds import policy_from

FloatArray = NDArray[np.float64]

ARGMAX = "argmax"
# A threshold of 0 would call every film of that class.
_LOWEST = 1e-6


@dataclass(frozen=True)
class SharedTemperature:
    """The logits of all classes divided by one number; 1 leaves the probabilities as they are.

    Args:
        temperature: above 1 where the network is too sure of itself.

    References:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """

    temperature: float = 1.0

    @classmethod
    def fit(cls, y_true: FloatArray, y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood of one-hot labels, both arrays [n, k]."""
        from scipy.optimize import minimize_scalar

        lowest, highest = np.log(TEMPERATURES)
        found = minimize_scalar(
            lambda log_temperature: -(y_true * _log_softmax(_log(y_score) / np.exp(log_temperature))).sum(),
            bounds=(lowest, highest),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return cls(float(np.exp(found.x)))

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Probabilities [n, k] that sum to one."""
        return np.exp(_log_softmax(_log(y_score) / self.temperature))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"method": "temperature", "temperature": self.temperature}


@dataclass(frozen=True)
class OneAgainstRest:
    """Each class calibrated alone, and the probabilities scaled to sum to one.

    Args:
        parts: a calibration for each class.

    References:
        Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """

    parts: tuple[Calibration, ...]

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Probabilities [n, k] that sum to one."""
        alone = np.stack([part.apply(y_score[:, place]) for place, part in enumerate(self.parts)], axis=1)
        return np.asarray(alone / alone.sum(axis=1, keepdims=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"method": "one_against_rest", "parts": [part.to_dict() for part in self.parts]}


JointCalibration = SharedTemperature | OneAgainstRest


@dataclass(frozen=True)
class MulticlassRule(DecisionRule):
    """The class whose probability exceeds its threshold by the largest factor.

    With equal thresholds that is the most probable class, which is what the policy ``argmax`` asks for.

    Args:
        calibration: from scores to probabilities that sum to one.
        choices: the threshold of each class, in their order, and how it came about.
        n_positive: validation films of each class.
        n_films: validation films.
    """

    kind: ClassVar[str] = "multiclass"
    calibration: JointCalibration
    choices: tuple[Choice, ...]
    n_positive: tuple[int, ...]
    n_films: int

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each class."""
        return {name: choice.threshold for name, choice in zip(self.classes, self.choices, strict=True)}

    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on films, given scores [n, k]."""
        probability = self.calibration.apply(_checked(y_score, self.classes))
        limits = np.maximum(list(self.thresholds.values()), _LOWEST)
        decided = (probability / limits).argmax(axis=1)
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
        """Fit to validation films, both arrays [n, k], the labels one-hot."""
        if len(classes) < 2:
            raise ValueError(f"A multiclass rule needs two classes or more. Received: classes={classes!r}")
        true, scores = as_scores(y_true, classes), _checked(y_score, classes)
        fitted = _fit_calibration(calibration, true, scores)
        choices = _choose(true, fitted.apply(scores), policy)
        return cls(
            tuple(classes), dict(policy), fitted, choices, tuple(true.sum(axis=0).astype(int).tolist()), len(true)
        )

    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """The same calibration with the thresholds of another policy."""
        true, scores = as_scores(y_true, self.classes), _checked(y_score, self.classes)
        choices = _choose(true, self.calibration.apply(scores), policy)
        return type(self)(self.classes, dict(policy), self.calibration, choices, self.n_positive, self.n_films)

    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""
        missed = [name for name, choice in zip(self.classes, self.choices, strict=True) if not choice.met]
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "thresholds": self.thresholds,
            "calibration": self.calibration.to_dict(),
            "policy": dict(self.policy),
            "policy_met": not missed,
            "message": f"The policy is missed for {', '.join(missed)}."
            if missed
            else "The policy is met for every class.",
            "per_class": {
                name: {
                    "policy_met": choice.met,
                    "message": choice.message,
                    "n_films": self.n_films,
                    "n_positive": n_positive,
                }
                for name, choice, n_positive in zip(self.classes, self.choices, self.n_positive, strict=True)
            },
            "fitted_on": {"split": SPLIT, "n_films": self.n_films},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from that form."""
        per_class = [values["per_class"][name] for name in values["classes"]]
        choices = tuple(
            Choice(float(values["thresholds"][name]), met=found["policy_met"], message=found["message"])
            for name, found in zip(values["classes"], per_class, strict=True)
        )
        return cls(
            tuple(values["classes"]),
            dict(values["policy"]),
            _calibration_from(values["calibration"]),
            choices,
            tuple(found["n_positive"] for found in per_class),
            values["fitted_on"]["n_films"],
        )


def _fit_calibration(method: str, y_true: FloatArray, y_score: FloatArray) -> JointCalibration:
    if method == "none":
        return SharedTemperature()
    if method == "temperature":
        return SharedTemperature.fit(y_true, y_score)
    return OneAgainstRest(
        tuple(fit_calibration(method, y_true[:, place], y_score[:, place]) for place in range(y_score.shape[1]))
    )


def _calibration_from(values: Mapping[str, Any]) -> JointCalibration:
    if "parts" in values:
        return OneAgainstRest(tuple(calibration_from_dict(part) for part in values["parts"]))
    return SharedTemperature(float(values["temperature"]))


def _choose(y_true: FloatArray, probability: FloatArray, policy: Mapping[str, Any]) -> tuple[Choice, ...]:
    k = int(probability.shape[1])
    if policy["rule"] == ARGMAX:
        most_probable = Choice(1 / k, met=True, message="The most probable class is chosen.")
        return tuple(most_probable for _ in range(k))
    chosen_by = policy_from(**policy)
    return tuple(chosen_by.choose(y_true[:, place], probability[:, place]) for place in range(k))


def _checked(y_score: ArrayLike, classes: Sequence[str]) -> FloatArray:
    scores = as_scores(y_score, classes)
    if np.isnan(scores).any():
        raise UserError(
            f"The model gives no number (NaN) for {np.isnan(scores).any(axis=1).sum()} of {len(scores)} films, where "
            "probabilities were expected: its training has diverged. Train again with a lower rate, such as "
            "--params <task>.training.learning_rate=0.0001"
        )
    return scores


def _log(y_score: FloatArray) -> FloatArray:
    return np.log(np.maximum(y_score, np.finfo(np.float64).tiny))


def _log_softmax(logits: FloatArray) -> FloatArray:
    from scipy.special import log_softmax

    return np.asarray(log_softmax(logits, axis=1))
