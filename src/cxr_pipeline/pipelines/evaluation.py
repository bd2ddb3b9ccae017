"""The evaluation stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.pretraining import without_seen
from cxr_pipeline.data.splits import count_splits, select_split, trained_on
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.evaluation.evaluate import (
    classification_report,
    cross_validation,
    evaluate,
    evaluate_policies,
    evaluate_sources,
    images_digest,
)
from cxr_pipeline.evaluation.score_tables import Scores, confusion_table, decide, predict_scores
from cxr_pipeline.evaluation.subgroups import evaluate_subgroups
from cxr_pipeline.framework.config import Augmentation, Evaluation, Subgroups, Task, Thresholds, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.warnings import warnings
from cxr_pipeline.tracking import runs


def score_test(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    pretraining: Mapping[str, Any],
    task: Task,
    augmentation: Augmentation,
    evaluation: Evaluation,
) -> pd.DataFrame:
    """Score the test images that were not seen in pretraining, and apply the frozen decision rule."""
    averaged = evaluation.average_views(model, augmentation)
    images = without_seen(select_split(manifest, splits, "test"), pretraining)
    scores = predict_scores(averaged, enhanced_images, images, task.outputs)
    return decide(scores, rule_from_dict(decision_rule))


def measure_test(
    validation_scores: pd.DataFrame,
    test_scores: pd.DataFrame,
    decision_rule: Mapping[str, Any],
    data_report: Mapping[str, Any],
    pretraining: Mapping[str, Any],
    task: Task,
    thresholds: Thresholds,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Compute every metric with its interval, clustered by patient if patients are known, and log them to the run."""
    rule = rule_from_dict(decision_rule)
    settings: dict[str, Any] = {"outputs": task.outputs, "exclusive": task.exclusive, "bootstrap": evaluation.bootstrap}
    policies = [policy.model_dump() for policy in thresholds.compared]
    measured = evaluate(test_scores, **settings)
    chosen = measured["metrics"]
    metrics = {
        "task": task.name,
        "kind": task.kind,
        "split": "test",
        "phantom": data_report["phantom"],
        "images_digest": images_digest(test_scores, task.outputs),
        "thresholds": rule.thresholds,
        **measured,
        **evaluate_sources(test_scores, **settings),
        **evaluate_policies(validation_scores, test_scores, rule, policies, chosen=chosen, **settings),
        **cross_validation(validation_scores, rule, **settings),
        "views": evaluation.views,
        "n_seen_in_pretraining": len(pretraining.get("seen", [])),
    }
    runs.log_summary(metrics, data_digest=data_report["data_digest"])
    return metrics


def measure_subgroups(
    test_scores: pd.DataFrame, manifest: pd.DataFrame, task: Task, evaluation: Evaluation, subgroups: Subgroups
) -> dict[str, Any]:
    """Compute the metrics by sex, age band and view."""
    settings = {**subgroups.model_dump(), "bootstrap": evaluation.bootstrap}
    return evaluate_subgroups(test_scores, manifest, outputs=task.outputs, **settings)


def tabulate(metrics: Mapping[str, Any], test_scores: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate the classification report, one row per output, and the confusion table, true classes by decisions."""
    scores = Scores.from_table(test_scores, task.outputs)
    return classification_report(metrics), confusion_table(scores, exclusive=task.exclusive)


def find_warnings(
    metrics: Mapping[str, Any],
    decision_rule: Mapping[str, Any],
    data_report: Mapping[str, Any],
    confounding: Mapping[str, Any],
    pretraining: Mapping[str, Any],
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
    training: Training,
) -> list[str]:
    """Collect the warnings that the report, the summary of the run and the registered version show."""
    classes = tuple(task.classes)
    return warnings(
        {"kind": task.kind, "classes": classes},
        metrics,
        decision_rule,
        {**data_report, "confounding": confounding, "pretraining": pretraining},
        count_splits(without_seen(manifest, pretraining), trained_on(splits, training.folds), classes),
    )


def create_pipeline() -> Pipeline:
    """Create the stage from the model and the test images to metrics with intervals."""
    return stage(
        "evaluation",
        node(score_test, "test_scores"),
        node(measure_test, "metrics"),
        node(measure_subgroups, "subgroups"),
        node(tabulate, ["classification_report", "confusion_table"]),
        node(find_warnings, "warnings"),
    )
