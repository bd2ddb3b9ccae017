"""The profile of a model's own images, read from the image store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.image_features import Observed, draw_images
from cxr_pipeline.deployment.drift.profile import Profile, reference_profile
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.score_tables import patients_of

if TYPE_CHECKING:
    from keras import Model


def profile_of(
    model: Model,
    rule: DecisionRule,
    images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    max_images: int,
    batch_size: int,
    seed: int,
) -> Profile:
    """Make the profile of the images that a model was trained with.

    Args:
        model: the network.
        rule: its decision rule.
        images: prepared by the model's recipe.
        manifest: with ``label_<output>`` for each output of the rule.
        splits: of its images.
        max_images: of the training images, and again of the validation images, one a patient, so many are looked at.
        batch_size: images at a time.
        seed: of the draw.

    Raises:
        UserError: there is no training image, or one is not prepared.
    """

    def look(split: str) -> Observed:
        rows = select_split(manifest, splits, split)
        return look_at_prepared(model, rule, images, rows, max_images=max_images, batch_size=batch_size, seed=seed)

    return reference_profile(look("train"), look("validation"), outputs=rule.outputs, seed=seed)


def look_at_prepared(
    model: Model,
    rule: DecisionRule,
    images: PreparedImages,
    rows: pd.DataFrame,
    *,
    max_images: int,
    batch_size: int,
    seed: int,
) -> Observed:
    """Draw one image of each patient from rows of the manifest, and look at it.

    Args:
        model: the network.
        rule: its decision rule.
        images: prepared by the model's recipe.
        rows: with ``source``, ``sha256``, ``patient_id`` and ``label_<output>`` for each output of the rule.
        max_images: so many are looked at.
        batch_size: images at a time.
        seed: of the draw.

    Raises:
        UserError: an image is not prepared.
    """
    drawn = rows.iloc[draw_images(_patients(rows), at_most=max_images, seed=seed)]
    labels = drawn[[f"label_{output}" for output in rule.outputs]].to_numpy("float64")
    seen = observe(model, rule, images.batches(drawn["sha256"].tolist(), batch_size), labels)
    return replace(seen, source=drawn["source"].to_numpy(np.str_))


def _patients(images: pd.DataFrame) -> Sequence[str | None]:
    """Name the patient of each image, None where not known."""
    known = patients_of(images)
    return [None] * len(images) if known is None else known.astype(object).where(known.notna(), None).tolist()
