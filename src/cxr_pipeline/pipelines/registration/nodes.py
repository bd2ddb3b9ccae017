"""Nodes of the registration stage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline import registry
from cxr_pipeline.config import Task
from cxr_pipeline.decision_rule import rule_from_dict
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.provenance import git_commit
from cxr_pipeline.registry import decisions, profiles
from cxr_pipeline.retraining import films_used


def register_model(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedFilms,
    metrics: Mapping[str, Any],
    data_report: Mapping[str, Any],
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    refused_films: pd.DataFrame,
    drift_profile: Any,
    task: Task,
) -> dict[str, Any]:
    """Register the model with all that stands before and behind it, and log its figures and its films.

    Its example is a ramp of greys: no patient's film belongs in an artifact. The figures were logged when they were
    measured, but a run that goes on after a kill is another one.
    """
    registry.log_summary(metrics, data_digest=data_report["data_digest"])
    decisions.log_films(films_used(manifest, splits, refused_films))
    profiles.log_profile(drift_profile)
    size = enhanced_images.recipe.size
    ramp = np.tile(np.linspace(0, 255, size).astype(np.uint8), (size, 1))
    return registry.register_version(
        task=task.name,
        phantom=data_report["phantom"],
        model=model,
        recipe=enhanced_images.recipe,
        decision_rule=rule_from_dict(decision_rule),
        metrics=metrics,
        data_digest=data_report["data_digest"],
        example=ramp,
        tags={"git_commit": git_commit(), "kedro_pipeline": task.name, "test_digest": metrics["films_digest"]},
    )
