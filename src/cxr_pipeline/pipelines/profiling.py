"""The profiling stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split, trained_on
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.framework.config import Augmentation, Drift, Evaluation, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def profile_images(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    training: Training,
    augmentation: Augmentation,
    evaluation: Evaluation,
    drift: Drift,
) -> Any:
    """Build the `ReferenceProfile` of the training and validation images of the model.

    The networks of an ensemble were trained on all of these, so that test images take the place of validation images.
    """
    from cxr_pipeline.deployment.drift.image_features import extract_features, sample_one_per_patient
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
    from cxr_pipeline.training.networks.ensemble import members_of

    rule, sides = rule_from_dict(decision_rule), []
    held_out = "validation" if training.folds == 1 else "test"
    # Scores of training images are not compared, so that one network without views is enough for their features.
    networks = {"train": members_of(model)[0], held_out: evaluation.average_views(model, augmentation)}
    for split, network in networks.items():
        images = select_split(manifest, trained_on(splits, training.folds), split)
        rows = sample_one_per_patient(images, max_images=drift.max_images, seed=drift.seed)
        batches = enhanced_images.batches(rows["sha256"].tolist(), drift.batch_size)
        features = extract_features(network, rule, batches, n_images=len(rows))
        sides.append(features.with_metadata(rows, rule.outputs))
    return ReferenceProfile.fit(*sides, outputs=rule.outputs, seed=drift.seed)


def create_pipeline() -> Pipeline:
    """Create the stage from the model and its images to the reference profile."""
    return stage("profiling", node(profile_images, "drift_profile"))
