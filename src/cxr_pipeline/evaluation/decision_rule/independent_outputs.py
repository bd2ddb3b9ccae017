"""Rules for outputs that are decided one by one: of a binary task, and of labels that may come together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.calibration import Calibration, calibration_from_dict, fit_calibration
from cxr_pipeline.evaluation.decision_rule.base import SPLIT, DecisionRule, Decisions, as_labels, as_scores, summary
from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.threshold_policies import policy_from

NONE = "none"


@dataclass(frozen=True)
class OutputRule:
    """How one output is decided.

    Args:
        calibration: from score to probability.
        threshold: the output is called where its probability is at least this.
        met: whether the policy got what it asked for.
        message: what the threshold reaches on the validation images, and what is to be known about the fit.
        n_images: validation images with a known label.
        n_positive: those among them that are positive.
    """

    calibration: Calibration
    threshold: float
    met: bool
    message: str
    n_images: int
    n_positive: int

    @classmethod
    def fit(
        cls, y_true: ArrayLike, y_score: ArrayLike, *, calibration: str | Calibration, policy: Mapping[str, Any]
    ) -> Self:
        """Fit to validation images, both arrays [n]; a calibration that is fitted already is kept."""
        positive, scores = known_images(y_true, y_score)
        fitted = fit_calibration(calibration, positive, scores) if isinstance(calibration, str) else calibration
        choice = policy_from(**policy).choose(positive, fitted.apply(scores))
        message = " ".join(filter(None, (choice.message, fitted.message)))
        return cls(fitted, choice.threshold, choice.met, message, len(scores), int(positive.sum()))

    def apply(self, y_score: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Probability and decision of images, both [n]."""
        probability = self.calibration.apply(y_score)
        return probability, np.asarray(probability >= self.threshold)


def _policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    return policy_from(**policy).to_dict()


def _count_known(y_true: NDArray[np.float64]) -> int:
    return int((~np.isnan(y_true)).any(axis=1).sum())


@dataclass(frozen=True)
class BinaryRule(DecisionRule):
    """The positive class or the negative one.

    Args:
        rule: how the positive class, the last one, is decided.
    """

    kind: ClassVar[str] = "binary"
    rule: OutputRule

    @property
    def outputs(self) -> tuple[str, ...]:
        """The positive class."""
        return self.classes[-1:]

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of the positive class."""
        return {self.classes[-1]: self.rule.threshold}

    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on images, given scores [n, 1]."""
        probability, called = self.rule.apply(as_scores(y_score, self.outputs)[:, 0])
        return Decisions(probability[:, None], called[:, None], np.array(self.classes)[called.astype(np.intp)])

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
        """Fit to validation images, both arrays [n, 1]."""
        if len(classes) != 2:
            raise ValueError(f"A binary rule needs two classes. Received: classes={classes!r}")
        true, scores = as_labels(y_true, classes[1:])[:, 0], as_scores(y_score, classes[1:])[:, 0]
        rule = OutputRule.fit(true, scores, calibration=calibration, policy=policy)
        return cls(tuple(classes), _policy(policy), rule)

    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """The same calibration with the threshold of another policy."""
        true, scores = as_labels(y_true, self.outputs)[:, 0], as_scores(y_score, self.outputs)[:, 0]
        rule = OutputRule.fit(true, scores, calibration=self.rule.calibration, policy=policy)
        return type(self)(self.classes, _policy(policy), rule)

    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "thresholds": self.thresholds,
            "calibration": self.rule.calibration.to_dict(),
            "policy": dict(self.policy),
            "policy_met": self.rule.met,
            "message": self.rule.message,
            "fitted_on": {"split": SPLIT, "n_images": self.rule.n_images, "n_positive": self.rule.n_positive},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from that form."""
        rule = OutputRule(
            calibration=calibration_from_dict(values["calibration"]),
            threshold=float(values["thresholds"][values["classes"][-1]]),
            met=values["policy_met"],
            message=values["message"],
            n_images=values["fitted_on"]["n_images"],
            n_positive=values["fitted_on"]["n_positive"],
        )
        return cls(tuple(values["classes"]), dict(values["policy"]), rule)


@dataclass(frozen=True)
class MultilabelRule(DecisionRule):
    """Any number of labels at once.

    Args:
        rules: how each label is decided, in the order of the classes.
        n_images: validation images of which at least one label is known.
    """

    kind: ClassVar[str] = "multilabel"
    rules: tuple[OutputRule, ...]
    n_images: int

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each label."""
        return {name: rule.threshold for name, rule in zip(self.classes, self.rules, strict=True)}

    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on images, given scores [n, k]."""
        scores = as_scores(y_score, self.classes)
        parts = [rule.apply(scores[:, place]) for place, rule in enumerate(self.rules)]
        called = np.stack([part[1] for part in parts], axis=1)
        names = np.array(self.classes)
        decision = np.array(["|".join(names[row]) or NONE for row in called], dtype=np.str_)
        return Decisions(np.stack([part[0] for part in parts], axis=1), called, decision)

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
        """Fit each label to the validation images for which it is known, both arrays [n, k]."""
        true, scores = as_labels(y_true, classes), as_scores(y_score, classes)
        rules = tuple(
            OutputRule.fit(true[:, place], scores[:, place], calibration=calibration, policy=policy)
            for place in range(len(classes))
        )
        return cls(tuple(classes), _policy(policy), rules, _count_known(true))

    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """The same calibrations with the thresholds of another policy."""
        true, scores = as_labels(y_true, self.classes), as_scores(y_score, self.classes)
        rules = tuple(
            OutputRule.fit(true[:, place], scores[:, place], calibration=rule.calibration, policy=policy)
            for place, rule in enumerate(self.rules)
        )
        return type(self)(self.classes, _policy(policy), rules, _count_known(true))

    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""
        named = dict(zip(self.classes, self.rules, strict=True))
        met = {name: rule.met for name, rule in named.items()}
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "thresholds": self.thresholds,
            "calibration": {name: rule.calibration.to_dict() for name, rule in named.items()},
            "policy": dict(self.policy),
            "policy_met": all(met.values()),
            "message": summary(met),
            "per_class": {
                name: {
                    "policy_met": rule.met,
                    "message": rule.message,
                    "n_images": rule.n_images,
                    "n_positive": rule.n_positive,
                }
                for name, rule in named.items()
            },
            "fitted_on": {"split": SPLIT, "n_images": self.n_images},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from that form."""
        rules = tuple(
            OutputRule(
                calibration=calibration_from_dict(values["calibration"][name]),
                threshold=float(values["thresholds"][name]),
                met=values["per_class"][name]["policy_met"],
                message=values["per_class"][name]["message"],
                n_images=values["per_class"][name]["n_images"],
                n_positive=values["per_class"][name]["n_positive"],
            )
            for name in values["classes"]
        )
        return cls(tuple(values["classes"]), dict(values["policy"]), rules, values["fitted_on"]["n_images"])
