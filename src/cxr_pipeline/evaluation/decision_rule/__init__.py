"""Calibration and thresholds in one: what turns a network's scores into a decision.

A rule is fitted on validation images only, frozen with the model, and applied to test images and new ones alike. There
is one for each kind of task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.decision_rule.base import DecisionRule, Decisions
from cxr_pipeline.evaluation.decision_rule.independent_outputs import BinaryRule, MultilabelRule
from cxr_pipeline.evaluation.decision_rule.multiclass import ARGMAX, MulticlassRule

__all__ = ["KINDS", "DecisionRule", "Decisions", "check_policy", "fit_decision_rule", "rule_from_dict", "with_policy"]

KINDS: dict[str, type[DecisionRule]] = {rule.kind: rule for rule in (BinaryRule, MulticlassRule, MultilabelRule)}


def fit_decision_rule(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    kind: str,
    classes: Sequence[str],
    calibration: str,
    policy: Mapping[str, Any],
) -> DecisionRule:
    """Fit calibration and thresholds to validation images.

    Args:
        y_true: [n, k], 1, 0, or NaN, which is left out.
        y_score: [n, k], the network's outputs in [0, 1].
        kind: ``binary``, ``multiclass`` or ``multilabel``.
        classes: of the task; of a binary one the negative class, then the positive one.
        calibration: ``none``, ``temperature``, ``platt`` or ``isotonic``.
        policy: ``rule`` and its values, see :func:`cxr_pipeline.evaluation.threshold_policies.policy_from`; for
            exclusive classes also ``argmax``.

    Raises:
        UserError: the model gave NaN, or ``argmax`` was asked for where classes are not exclusive.
        ValueError: the classes do not fit the kind, or a name or value is unknown.
    """
    rule = _rule_of(kind)
    check_policy(policy, kind)
    return rule.fit(y_true, y_score, classes=classes, calibration=calibration, policy=policy)


def with_policy(rule: DecisionRule, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> DecisionRule:
    """The rule that another policy makes of the same calibration and the same validation images.

    Args:
        rule: a fitted rule.
        y_true: [n, k], as in :func:`fit_decision_rule`.
        y_score: [n, k], likewise.
        policy: the other policy, likewise.

    Raises:
        UserError: the model gave NaN, or ``argmax`` was asked for where classes are not exclusive.
        ValueError: a name or value is unknown.
    """
    check_policy(policy, rule.kind)
    return rule.with_policy(y_true, y_score, policy)


def rule_from_dict(values: Mapping[str, Any]) -> DecisionRule:
    """Restore a rule from its JSON form; it decides on every image as the one that was saved.

    Raises:
        ValueError: the kind is unknown.
    """
    return _rule_of(values.get("kind", BinaryRule.kind)).from_dict(values)


def _rule_of(kind: str) -> type[DecisionRule]:
    if kind not in KINDS:
        raise ValueError(f"A decision rule must be of one of the kinds {', '.join(KINDS)}. Received: kind={kind!r}")
    return KINDS[kind]


def check_policy(policy: Mapping[str, Any], kind: str) -> None:
    """Check that a policy chooses between what a kind of task has.

    Raises:
        UserError: it is ``argmax`` and the classes are not exclusive.
    """
    if policy["rule"] == ARGMAX and kind != MulticlassRule.kind:
        raise UserError(
            f"thresholds.policy or thresholds.compared asks for the rule argmax, which chooses between exclusive "
            f"classes; this task is {kind}. Ask for another, such as rule: youden (--params "
            "<task>.thresholds.policy.rule=youden)."
        )
