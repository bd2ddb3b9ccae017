"""The thresholds stage."""

from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import member_splits, select_split
from cxr_pipeline.evaluation import decision_rule as rules
from cxr_pipeline.evaluation.score_tables import columns_of, predict_scores
from cxr_pipeline.framework.config import Augmentation, Evaluation, Task, Thresholds, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def score_validation(
    model: Any,
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
    training: Training,
    augmentation: Augmentation,
    evaluation: Evaluation,
) -> pd.DataFrame:
    """Score the validation images of each ``member`` of the ensemble, which it was not trained on, or the only ones."""
    from cxr_pipeline.training.networks.ensemble import members_of

    tables = []
    for member, (network, member_split) in enumerate(
        zip(members_of(model), member_splits(splits, training.folds), strict=True), start=1
    ):
        images = select_split(manifest, member_split, "validation")
        averaged = evaluation.average_views(network, augmentation)
        tables.append(predict_scores(averaged, enhanced_images, images, task.outputs).assign(member=member))
    return pd.concat(tables, ignore_index=True)


def fit_decision_rule(validation_scores: pd.DataFrame, task: Task, thresholds: Thresholds) -> dict[str, Any]:
    """Fit calibration and threshold on the validation images only."""
    rule = rules.fit_decision_rule(
        columns_of(validation_scores, "true", task.outputs),
        columns_of(validation_scores, "score", task.outputs),
        kind=task.kind,
        classes=tuple(task.classes),
        calibration=thresholds.calibration,
        policy=thresholds.policy.model_dump(),
    )
    return rule.to_dict()


def create_pipeline() -> Pipeline:
    """Create the stage from the model and the validation images to the decision rule."""
    return stage(
        "thresholds",
        node(score_validation, "validation_scores"),
        node(fit_decision_rule, "decision_rule"),
    )
