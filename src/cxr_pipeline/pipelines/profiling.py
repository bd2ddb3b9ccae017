"""The profiling stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.framework.config import Drift
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def profile_images(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    drift: Drift,
) -> Any:
    """Build the `ReferenceProfile` of the model's own images."""
    from cxr_pipeline.deployment.drift.reference_profile import build_reference_profile

    settings = drift.model_dump(include={"max_images", "batch_size", "seed"})
    return build_reference_profile(model, rule_from_dict(decision_rule), enhanced_images, manifest, splits, **settings)


def create_pipeline() -> Pipeline:
    """Create the stage from the model and its images to the reference profile."""
    return stage("profiling", node(profile_images, "drift_profile"))
