"""The pictures of a report, as PNG bytes by the name that the report knows: which of them a kind of task has."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.classes import class_auc, class_precision_recall, class_reliability, class_roc
from cxr_pipeline.report.figures.curves import precision_recall, roc, score_histogram, training_curves
from cxr_pipeline.report.figures.images import augmentation_preview, class_samples, mistakes
from cxr_pipeline.report.figures.matrices import classification_report, confusion, confusion_matrix
from cxr_pipeline.report.figures.ranking import exclusive_mistakes, label_mistakes, two_class_mistakes
from cxr_pipeline.report.figures.reliability import reliability

__all__ = [
    "augmentation_preview",
    "class_samples",
    "classification_report",
    "draw_scores",
    "mistakes",
    "rank_mistakes",
    "training_curves",
]


def draw_scores(
    scores: Scores,
    *,
    classes: Sequence[str],
    thresholds: Mapping[str, float],
    metrics: Mapping[str, Any],
    exclusive: bool,
) -> dict[str, bytes]:
    """The figures that the scores of the test images make.

    Args:
        scores: the test images; labels that are NaN are left out.
        classes: of the task; two classes with one output are the negative and the positive class.
        thresholds: of each output; read for two classes only.
        metrics: the content of ``metrics.json``, of which ``metrics``, ``per_class`` and ``support`` are read.
        exclusive: whether an image has just one class.

    Returns:
        PNG bytes by name. Two classes: ``roc``, ``precision_recall``, ``reliability``, ``score_histogram`` and
        ``confusion``. Several: ``class_auc``, ``class_roc``, ``class_precision_recall`` and ``class_reliability``,
        and ``confusion_matrix`` if they are exclusive.
    """
    return DRAWERS[_kind(scores, classes, exclusive)](scores, classes, thresholds, metrics)


def rank_mistakes(
    scores: Scores, *, classes: Sequence[str], thresholds: Mapping[str, float], exclusive: bool, limit: int = 9
) -> pd.DataFrame:
    """The images decided wrongly with most confidence, worst first.

    Args:
        scores: the test images; labels that are NaN are left out.
        classes: of the task.
        thresholds: of each output; not read for exclusive classes.
        exclusive: whether an image has just one class.
        limit: rows at most.

    Returns:
        ``position`` of the image among the scores, and its ``caption``.
    """
    return RANKINGS[_kind(scores, classes, exclusive)](scores, classes, thresholds, limit)


def _kind(scores: Scores, classes: Sequence[str], exclusive: bool) -> str:
    if exclusive:
        return "multiclass"
    return "binary" if len(scores.outputs) < len(classes) else "multilabel"


def _draw_two_classes(
    scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], metrics: Mapping[str, Any]
) -> dict[str, bytes]:
    y_true, probability = scores.y_true[:, 0], scores.probability[:, 0]
    threshold, measured = thresholds[scores.outputs[0]], metrics["metrics"]
    return {
        "roc": roc(y_true, probability, threshold, auc=measured["auc"]),
        "precision_recall": precision_recall(
            y_true, probability, threshold, average_precision=measured["average_precision"]
        ),
        "reliability": reliability(y_true, probability),
        "score_histogram": score_histogram(y_true, probability, threshold, classes=classes),
        "confusion": confusion(y_true, probability, threshold, classes=classes),
    }


def _draw_labels(
    scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], metrics: Mapping[str, Any]
) -> dict[str, bytes]:
    return {
        "class_auc": class_auc(metrics),
        "class_roc": class_roc(scores),
        "class_precision_recall": class_precision_recall(scores),
        "class_reliability": class_reliability(scores),
    }


def _draw_exclusive(
    scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], metrics: Mapping[str, Any]
) -> dict[str, bytes]:
    return {**_draw_labels(scores, classes, thresholds, metrics), "confusion_matrix": confusion_matrix(scores)}


DRAWERS = {"binary": _draw_two_classes, "multiclass": _draw_exclusive, "multilabel": _draw_labels}
RANKINGS = {"binary": two_class_mistakes, "multiclass": exclusive_mistakes, "multilabel": label_mistakes}
