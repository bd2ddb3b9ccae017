"""Nodes of the thresholds stage."""

from typing import Any

import pandas as pd

from cxr_pipeline import decision_rule as rules
from cxr_pipeline.config import Task, Thresholds
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.splits import films_of


def score_validation(
    model: Any, enhanced_images: PreparedFilms, manifest: pd.DataFrame, splits: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """Let the model score the validation films."""
    from cxr_pipeline.training.fitting import predict

    films = films_of(manifest, splits, "validation")
    scores = films[["source", "image", "patient_id"]].assign(y_true=films[f"label_{task.positive}"])
    return scores.assign(y_score=predict(model, enhanced_images, films["sha256"].tolist()))


def fit_decision_rule(validation_scores: pd.DataFrame, task: Task, thresholds: Thresholds) -> dict[str, Any]:
    """Fit calibration and threshold, on validation films alone."""
    rule = rules.fit_decision_rule(
        validation_scores["y_true"].to_numpy(),
        validation_scores["y_score"].to_numpy(),
        classes=tuple(task.classes),
        calibration=thresholds.calibration,
        policy=thresholds.policy.model_dump(),
    )
    return rule.to_dict()
