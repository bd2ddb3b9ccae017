"""The learning curve stage."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.common.progress import track
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import group_ids, member_splits, select_split
from cxr_pipeline.experiments import learning_curve as curves
from cxr_pipeline.framework.config import (
    Augmentation,
    Evaluation,
    Folders,
    LearningCurve,
    Network,
    Resampling,
    Task,
    Training,
)
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.learning_curve import draw_learning_curve

logger = logging.getLogger(__name__)


def train_subsets(
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
    model: Network,
    training: Training,
    resampling: Resampling,
    augmentation: Augmentation,
    learning_curve: LearningCurve,
    folders: Folders,
) -> pd.DataFrame:
    """Train on each subset of the patients outside the test set, and measure the AUC on the fold of its draw.

    The last epoch is measured, because the choice of the best would be optimistic, more so with few images.
    """
    labels = [f"label_{name}" for name in task.classes]
    trainings = []
    for draw, member_split in enumerate(member_splits(splits, learning_curve.draws)):
        rows = select_split(manifest, member_split, "train")
        seed = learning_curve.seed + draw
        subsets = curves.nested_subsets(group_ids(rows), rows[labels], learning_curve.sizes, seed)
        trainings += [(draw, member_split, size, rows[chosen]) for size, chosen in enumerate(subsets)]
    curve = []
    for draw, member_split, size, rows in track(trainings, "Training on subsets", len(trainings)):
        changes: dict[str, Any] = {"seed": training.seed + draw, "patience": None}
        if not learning_curve.full:
            changes["fine_tuning"] = training.fine_tuning.model_copy(update={"epochs": 0})
        settings = training.model_copy(update=changes)
        data = (enhanced_images, manifest, member_split, resampling.plan_epoch(rows, task))
        about: dict[str, Any] = {"task": task, "augmentation": augmentation, "folders": folders}
        _, history = settings.fit(model, *data, **about, on_epoch=lambda row: None)
        auc = float(history["val_auc"].iloc[-1])
        patients = int(group_ids(rows).nunique())
        logger.info("Draw %d, %d images of %d patients: AUC %.3f", draw + 1, len(rows), patients, auc)
        curve.append({"draw": draw, "size": size, "n_images": len(rows), "n_patients": patients, "auc": auc})
    return pd.DataFrame(curve)


def analyse_curve(
    learning_curve_table: pd.DataFrame,
    manifest: pd.DataFrame,
    data_report: Mapping[str, Any],
    task: Task,
    evaluation: Evaluation,
    learning_curve: LearningCurve,
) -> dict[str, Any]:
    """Fit the curve, and log the answer."""
    prevalence = float(np.mean([manifest[f"label_{name}"].mean() for name in task.outputs]))
    analysis = curves.analyse(
        learning_curve_table, prevalence=prevalence, confidence=evaluation.confidence, seed=learning_curve.seed
    )
    answer = curves.sentence(analysis)
    logger.info("%s", answer)
    return {"task": task.name, "phantom": data_report["phantom"], "answer": answer, **analysis}


def create_pipeline() -> Pipeline:
    """Create the stage that trains on growing subsets of the patients, and predicts what more images would bring."""
    return stage(
        "learning_curve",
        node(train_subsets, "learning_curve_table"),
        node(analyse_curve, "learning_curve_report"),
        node(
            draw_learning_curve, "learning_curve_figure", curve="learning_curve_table", report="learning_curve_report"
        ),
    )
