"""Decision rules: calibration and thresholds, which turn the scores of a network into decisions.

A rule is fitted on validation images only, frozen with the model, and applied unchanged to test images and new images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.calibration import Calibration, calibration_from_dict, fit_calibration
from cxr_pipeline.evaluation.metrics import check_scores
from cxr_pipeline.evaluation.threshold_policies import Threshold, choose_threshold

FloatArray = NDArray[np.float64]

Kind = Literal["binary", "multiclass", "multilabel"]
ARGMAX = "argmax"
# The decision on an image without any of the labels of a multi-label task.
NONE = "none"
# With a threshold of 0, every image would be assigned to that class.
LOWEST_THRESHOLD = 1e-6


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a rule on n images: the predicted outputs, and the predicted class.

    Several labels are joined by ``|``, no label is ``none``. Probabilities, [n, k], lie in [0, 1].
    """

    probability: FloatArray
    predicted: NDArray[np.bool_]
    decision: NDArray[np.str_]


@dataclass(frozen=True)
class DecisionRule:
    """A fitted decision rule.

    Args:
        classes: of the task; for a binary task, the negative class, then the positive one.
        policy: name and values of the threshold policy, as configured.
        n_images: validation images with at least one known label.
    """

    kind: str
    classes: tuple[str, ...]
    policy: Mapping[str, Any]
    calibration: Calibration
    output_rules: tuple[Threshold, ...]
    n_images: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """The k classes with a score of the network; for a binary task, the positive class."""
        return self.classes[-1:] if self.kind == "binary" else self.classes

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each output."""
        return {name: rule.threshold for name, rule in zip(self.outputs, self.output_rules, strict=True)}

    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on images from the outputs of the network [n, k], in [0, 1].

        Raises:
            UserError: a score is NaN, which must not count as negative.
            ValueError: the shape is not [n, k], or a score lies outside [0, 1].
        """
        probability = self.calibration.apply(_as_scores(y_score, len(self.outputs)))
        thresholds, names = np.array(list(self.thresholds.values())), np.array(self.classes)
        if self.kind == "multiclass":
            chosen = _choose_class(probability, thresholds)
            return Decisions(probability, np.arange(len(names)) == chosen[:, None], names[chosen])
        predicted = probability >= thresholds
        if self.kind == "binary":
            return Decisions(probability, predicted, names[predicted[:, 0].astype(np.intp)])
        decision = np.array(["|".join(names[row]) or NONE for row in predicted], dtype=np.str_)
        return Decisions(probability, predicted, decision)

    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """Return a rule with the same calibration and the thresholds of another policy, see `fit_decision_rule`."""
        check_policy(policy, self.kind)
        k = len(self.outputs)
        true, scores = _as_matrix(y_true, k, "Labels"), _as_scores(y_score, k)
        probability = self.calibration.apply(scores)
        # The most probable class is the one that exceeds equal thresholds by the largest factor.
        equal = {"rule": "fixed", "value": 1 / k}
        rules = []
        for column in range(k):
            images = true[:, column], probability[:, column]
            chosen = choose_threshold(*images, **(equal if policy["rule"] == ARGMAX else policy))
            message = "The most probable class is predicted." if policy["rule"] == ARGMAX else chosen.message
            warned = " ".join(filter(None, (message, self.calibration.message_of(column))))
            rules.append(replace(chosen, message=warned))
        n_images = int((~np.isnan(true)).any(axis=1).sum())
        return replace(self, policy=dict(policy), output_rules=tuple(rules), n_images=n_images)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``decision_rule.json``."""
        rules = dict(zip(self.outputs, self.output_rules, strict=True))
        values: dict[str, Any] = {
            "kind": self.kind,
            "classes": list(self.classes),
            "thresholds": self.thresholds,
            "calibration": self.calibration.to_dict(self.outputs),
            "policy": dict(self.policy),
            "policy_met": all(rule.policy_met for rule in rules.values()),
        }
        fitted_on = {"split": "validation", "n_images": self.n_images}
        if self.kind == "binary":
            (rule,) = self.output_rules
            return {
                **values,
                "calibration": values["calibration"][self.outputs[0]],
                "message": rule.message,
                "fitted_on": {**fitted_on, "n_positive": rule.n_positive},
            }
        missed = ", ".join(name for name, rule in rules.items() if not rule.policy_met)
        result = f"not met for {missed}; see per_class" if missed else f"met for all {len(rules)} classes"
        summary = f"The policy is {result}."
        return {
            **values,
            "message": " ".join(filter(None, (summary, self.calibration.message))),
            "per_class": {name: _without_threshold(rule) for name, rule in rules.items()},
            "fitted_on": fitted_on,
        }


def fit_decision_rule(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    kind: str,
    classes: Sequence[str],
    calibration: str,
    policy: Mapping[str, Any],
) -> DecisionRule:
    """Fit calibration and thresholds on validation images.

    Args:
        y_true: [n, k], 1, 0, or NaN for unknown, which is left out.
        y_score: [n, k], the outputs of the network, in [0, 1].
        kind: ``binary``, ``multiclass`` or ``multilabel``.
        classes: see `DecisionRule`.
        calibration: see `fit_calibration`.
        policy: ``rule`` and ``value``, see `choose_threshold`; for multiclass tasks the rule may be ``argmax``.

    Raises:
        UserError: a score is NaN, or ``argmax`` is requested for classes that are not exclusive.
        ValueError: a shape or a label is wrong, or a score lies outside [0, 1].

    Example:
        >>> rule = fit_decision_rule(
        ...     [[0], [0], [1], [1]], [[0.1], [0.4], [0.3], [0.8]], kind="binary", classes=("normal", "effusion"),
        ...     calibration="none", policy={"rule": "fixed", "value": 0.5},
        ... )
        >>> rule.apply([[0.2], [0.9]]).decision.tolist()
        ['normal', 'effusion']
    """
    n_outputs = 1 if kind == "binary" else len(classes)
    true, scores = _as_matrix(y_true, n_outputs, "Labels"), _as_scores(y_score, n_outputs)
    fitted = fit_calibration(calibration, true, scores, exclusive=kind == "multiclass")
    return DecisionRule(kind, tuple(classes), policy, fitted, (), 0).with_policy(true, scores, policy)


def rule_from_dict(values: Mapping[str, Any]) -> DecisionRule:
    """Restore a rule from its JSON form. It makes the same decisions as the saved rule.

    Raises:
        UserError: the values are not those of a rule.
    """
    try:
        kind, classes, fitted_on = values["kind"], tuple(values["classes"]), values["fitted_on"]
        names = ("policy_met", "message", "n_images", "n_positive")
        only = {name: values.get(name, fitted_on.get(name)) for name in names}
        per_class = values.get("per_class", {classes[-1]: only})
        rules = tuple(Threshold(float(each), **per_class[name]) for name, each in values["thresholds"].items())
        saved = {classes[-1]: values["calibration"]} if kind == "binary" else values["calibration"]
        calibration = calibration_from_dict(saved, exclusive=kind == "multiclass")
        if kind not in get_args(Kind) or not all(isfinite(rule.threshold) for rule in rules):
            raise ValueError(f"kind {kind!r}, thresholds {values['thresholds']}")
        return DecisionRule(kind, classes, dict(values["policy"]), calibration, rules, fitted_on["n_images"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The decision rule is damaged: {error}. Train the model again, or restore a copy of its file."
        ) from error


def check_policy(policy: Mapping[str, Any], kind: str) -> None:
    """Raise a `UserError` if a threshold policy is ``argmax`` and the classes are not exclusive."""
    if policy["rule"] == ARGMAX and kind != "multiclass":
        raise UserError(
            f"thresholds.policy or thresholds.compared asks for the rule argmax, which requires exclusive classes; "
            f"this task is {kind}. Use another rule, for example --params <task>.thresholds.policy.rule=youden."
        )


def _choose_class(probability: FloatArray, thresholds: FloatArray) -> NDArray[np.intp]:
    """Return the class whose probability exceeds its threshold by the largest factor, the first one of a tie.

    With equal thresholds this is the most probable class. With different thresholds, the sensitivity for a class can be
    below that of its threshold alone, because only one of the classes above their thresholds is predicted.
    """
    limits = np.maximum(thresholds, LOWEST_THRESHOLD)
    # These factors are exactly 1 if the thresholds are equal: rounding must not create a tie.
    return np.asarray((probability * (limits.min() / limits)).argmax(axis=1))


def _without_threshold(rule: Threshold) -> dict[str, Any]:
    return {name: value for name, value in asdict(rule).items() if name != "threshold"}


def _as_scores(y_score: ArrayLike, n_outputs: int) -> FloatArray:
    scores = _as_matrix(y_score, n_outputs, "Scores")
    check_scores(scores)
    return scores


def _as_matrix(values: ArrayLike, n_outputs: int, name: str) -> FloatArray:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != n_outputs:
        raise ValueError(f"{name} must have the shape [n, {n_outputs}]. Received: {matrix.shape}")
    return matrix
