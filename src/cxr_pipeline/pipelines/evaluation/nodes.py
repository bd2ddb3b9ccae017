"""Nodes of the evaluation stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic import BaseModel

from cxr_pipeline.config import Evaluation, Model, Resolution, Task, Training
from cxr_pipeline.decision_rule import DecisionRule
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.intervals import measure
from cxr_pipeline.provenance import flatten, versions
from cxr_pipeline.report import figures as drawings
from cxr_pipeline.report.page import ReportContent, render
from cxr_pipeline.splits import count_splits, films_of
from cxr_pipeline.training.choice import Choice


def score_test(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedFilms,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
) -> pd.DataFrame:
    """Let the model score the test films, and decide as the frozen rule says."""
    from cxr_pipeline.training.fitting import predict

    films = films_of(manifest, splits, "test")
    y_score = predict(model, enhanced_images, films["sha256"].tolist())
    probability, decision = DecisionRule.from_dict(decision_rule).apply(y_score)
    scores = films[["source", "image", "sha256", "patient_id"]].assign(y_true=films[f"label_{task.positive}"])
    return scores.assign(y_score=y_score, probability=probability, decision=decision)


def measure_test(
    test_scores: pd.DataFrame,
    decision_rule: Mapping[str, Any],
    data_report: Mapping[str, Any],
    task: Task,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Every metric with its interval, clustered by patient where patients are known."""
    groups = test_scores["source"].str.cat(test_scores["patient_id"], sep="/")
    by_patient = bool(groups.notna().any())
    metrics = measure(
        test_scores["y_true"],
        test_scores["probability"],
        decision_rule["thresholds"][task.positive],
        groups if by_patient else None,
        **evaluation.model_dump(),
    )
    return {
        "task": task.name,
        "kind": task.kind,
        "split": "test",
        "phantom": data_report["phantom"],
        "n_images": len(test_scores),
        "n_patients": int(groups.nunique()) if by_patient else None,
        "prevalence": float(test_scores["y_true"].mean()),
        "thresholds": decision_rule["thresholds"],
        "metrics": metrics,
        "per_class": {task.positive: metrics},
        "intervals": {
            "method": "percentile bootstrap; lower end of ece reflected",
            "clustered_by": "patient" if by_patient else "film",
            "replicates": evaluation.replicates,
            "confidence": evaluation.confidence,
        },
    }


def draw_figures(
    test_scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    enhanced_images: PreparedFilms,
    augmentation_preview: bytes,
    task: Task,
    training: Training,
) -> dict[str, bytes]:
    """Draw what the report shows, as PNG by name."""
    choice = Choice(training.monitor, training.tolerance, training.patience)
    kept = choice.kept([{training.monitor: value} for value in history[training.monitor]])
    threshold = metrics["thresholds"][task.positive]
    scored = (test_scores["y_true"], test_scores["probability"], threshold)
    classes = tuple(task.classes)
    worst = drawings.rank_mistakes(*scored, classes=classes)
    films = enhanced_images.read(test_scores["sha256"].iloc[worst["position"]].tolist())
    return {
        **drawings.draw_scores(*scored, classes=classes, metrics=metrics["metrics"]),
        "training_curves": drawings.training_curves(history, kept=int(history["epoch"].iloc[kept])),
        "mistakes": drawings.mistakes(films, worst["caption"].tolist()),
        "augmentation_preview": augmentation_preview,
    }


def write_report(
    metrics: Mapping[str, Any],
    decision_rule: Mapping[str, Any],
    data_report: Mapping[str, Any],
    quarantine: pd.DataFrame,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    history: pd.DataFrame,
    figures: Mapping[str, bytes],
    trained: Any,
    parameters: Mapping[str, Any],
    task: Task,
    model: Model,
    resolution: Resolution,
) -> str:
    """Write the page that the run leaves for its reader."""
    blocks = parameters[task.name]
    content = ReportContent(
        task={"name": task.name, "title": task.title, "kind": task.kind, "classes": list(task.classes)},
        metrics=metrics,
        decision_rule=decision_rule,
        data_report=data_report,
        quarantine=quarantine,
        split_counts=count_splits(manifest, splits, tuple(task.classes)),
        history=history,
        figures=figures,
        parameters=flatten({name: _plain(block) for name, block in blocks.items()}),
        versions=versions(),
        model={
            "name": model.name,
            "weights": model.weights,
            "n_parameters": trained.count_params(),
            "size": resolution.size,
        },
    )
    return render(content)


def _plain(block: Any) -> Any:
    return block.model_dump(mode="json") if isinstance(block, BaseModel) else block
