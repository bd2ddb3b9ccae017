"""Nodes of the registration stage."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cxr_pipeline import registry
from cxr_pipeline.config import Task
from cxr_pipeline.decision_rule import rule_from_dict
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.provenance import git_commit


def register_model(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedFilms,
    metrics: Mapping[str, Any],
    data_report: Mapping[str, Any],
    task: Task,
) -> dict[str, Any]:
    """Register the model with all that stands before and behind it, and log its figures.

    Its example is a ramp of greys: no patient's film belongs in an artifact. The figures were logged when they were
    measured, but a run that goes on after a kill is another one.
    """
    registry.log_summary(metrics, data_digest=data_report["data_digest"])
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
