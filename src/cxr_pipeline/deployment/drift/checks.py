"""A whole check: new images are looked at and compared, and all that is told of it is put together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.detection import DriftSettings, detect_drift
from cxr_pipeline.deployment.drift.new_images import NewImages
from cxr_pipeline.deployment.drift.profile import Profile

_log = logging.getLogger(__name__)


def check_images(
    new: NewImages,
    classifier: ImageClassifier,
    profile: Profile,
    parameters: Mapping[str, Any],
    *,
    task: str,
    place: str,
    stored: bool = True,
) -> dict[str, Any]:
    """Compare new images with a model's own, and log the verdict.

    Args:
        new: the images.
        classifier: the model.
        profile: of the model's own images.
        parameters: those of ``drift``, nested: ``max_images``, ``batch_size`` and ``seed`` of the draw, and what
            counts as drift.
        task: its name.
        place: where the new images are, in words.
        stored: whether the profile was made by the model's own run.

    Returns:
        JSON types: `DriftReport.to_dict`; ``new_images``, their ``place`` and the counts of `NewImages.look`;
        ``reference``, whether the profile was ``stored``, and its ``training_images`` and ``validation_images``.
    """
    drawn = {name: parameters[name] for name in ("max_images", "batch_size", "seed")}
    seen, counts = new.look(classifier, **drawn)
    found = detect_drift(profile, seen, DriftSettings.from_dict(parameters))
    told = _log.info if found.verdict == "none" else _log.warning
    told("Drift of %s: %s. %s", task, found.verdict, found.sentence)
    return {
        **found.to_dict(),
        "new_images": {"place": place, **counts},
        "reference": {
            "stored": stored,
            "training_images": len(profile.statistics),
            "validation_images": len(profile.probability),
        },
    }
