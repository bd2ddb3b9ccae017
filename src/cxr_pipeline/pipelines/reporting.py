"""The reporting stage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from cxr_pipeline.common.mappings import flatten, hide_passwords
from cxr_pipeline.common.provenance import versions
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.pretraining import without_seen
from cxr_pipeline.data.splits import count_sources, count_splits, select_split
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.framework.config import Network, Task, Training, plain
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.figures.curves import training_curves
from cxr_pipeline.report.figures.images import class_samples, mistakes
from cxr_pipeline.report.figures.scores import draw_scores, rank_mistakes
from cxr_pipeline.report.pages.report import render_card, render_report


def draw_figures(
    test_scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
    training: Training,
) -> dict[str, bytes]:
    """Draw the figures of the report, PNG bytes by name."""
    scores = Scores.from_table(test_scores, task.outputs)
    worst = rank_mistakes(scores, kind=task.kind, classes=tuple(task.classes), thresholds=metrics["thresholds"])
    images = enhanced_images.read(test_scores["sha256"].iloc[worst["position"]].tolist())
    return {
        **draw_scores(scores, metrics, kind=task.kind, classes=tuple(task.classes)),
        "training_curves": training_curves(history, selected=training.selector.select_rows(history)["epoch"].tolist()),
        "mistakes": mistakes(images, worst["caption"].tolist()),
        "class_samples": _draw_samples(select_split(manifest, splits, "train"), enhanced_images, task),
    }


def _draw_samples(images: pd.DataFrame, prepared: PreparedImages, task: Task) -> bytes:
    """Draw the first training image of each class that has one, in the order of their hashes."""
    ordered = images.sort_values("sha256")
    of_class = {name: ordered.loc[ordered[f"label_{name}"] == 1, "sha256"] for name in task.classes}
    chosen = {name: sha256s.iloc[0] for name, sha256s in of_class.items() if len(sha256s)}
    return class_samples(prepared.read(list(chosen.values())), list(chosen))


def write_report(
    metrics: Mapping[str, Any],
    decision_rule: Mapping[str, Any],
    data_report: Mapping[str, Any],
    confounding: Mapping[str, Any],
    pretraining: Mapping[str, Any],
    subgroups: Mapping[str, Any],
    explanations: Mapping[str, Any],
    classification_report: pd.DataFrame,
    confusion_table: pd.DataFrame,
    quarantine: pd.DataFrame,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    history: pd.DataFrame,
    figures: Mapping[str, bytes],
    heatmaps: Mapping[str, bytes],
    augmentation_preview: bytes,
    trained: Any,
    warnings: list[str],
    model_version: Mapping[str, Any],
    parameters: Mapping[str, Any],
    task: Task,
    model: Network,
    training: Training,
) -> tuple[dict[str, str], str, str]:
    """Write a copy of the report that no later run replaces, the model card and the report of a version."""
    used = flatten({name: plain(block) for name, block in parameters[task.name].items()})
    network = {"name": trained.name, "n_parameters": trained.count_params(), "size": trained.input_shape[1]}
    selected, tested = training.selector.select_rows(history), without_seen(manifest, pretraining)
    content = ReportContent(
        version=model_version,
        warnings=warnings,
        task={"name": task.name, "title": task.title, "kind": task.kind, "classes": list(task.classes)},
        metrics=metrics,
        decision_rule=decision_rule,
        data_report={**data_report, "confounding": confounding, "pretraining": pretraining},
        quarantine=quarantine,
        split_counts=count_splits(tested, splits, tuple(task.classes)),
        source_counts=count_sources(tested, splits),
        sampling_plan=sampling_plan,
        history=history,
        figures={**figures, **heatmaps, "augmentation_preview": augmentation_preview},
        parameters=hide_passwords(used),
        versions=versions(),
        model={
            **network,
            "weights": model.weights,
            "epochs": selected["epoch"].tolist(),
            "phase": selected["phase"].iloc[0],
        },
        explanations=explanations,
        classification_report=classification_report if len(task.outputs) > 1 else None,
        confusion_table=confusion_table if task.exclusive else None,
        subgroups=subgroups,
    )
    report = render_report(content)
    written = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    copy = {f"{written}_{model_version['name']}_{model_version['version']}.html": report}
    return copy, render_card(content), report


def create_pipeline() -> Pipeline:
    """Create the pipeline that draws the figures and writes the report and the model card.

    They are written after the version is registered, because they name it.
    """
    return stage(
        "reporting",
        node(draw_figures, "figures"),
        node(write_report, ["reports", "model_card", "report"], trained="model"),
    )
