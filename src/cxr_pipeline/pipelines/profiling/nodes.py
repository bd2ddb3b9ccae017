"""Nodes of the profiling stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.framework.config import Drift


def profile_images(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    drift: Drift,
) -> Any:
    """Make the ``Profile`` of the images that the model was trained with."""
    from cxr_pipeline.deployment.drift.reference import profile_of

    return profile_of(
        model,
        rule_from_dict(decision_rule),
        enhanced_images,
        manifest,
        splits,
        max_images=drift.max_images,
        batch_size=drift.batch_size,
        seed=drift.seed,
    )
