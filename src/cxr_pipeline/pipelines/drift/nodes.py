"""Nodes of the drift stage."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources import check_source, open_source, read_source
from cxr_pipeline.deployment.scoring import check_classes
from cxr_pipeline.framework.config import Drift, Folders, Sources, Task
from cxr_pipeline.tracking.drift_profiles import stored_profile

if TYPE_CHECKING:
    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.deployment.drift.new_images import NewImages
    from cxr_pipeline.deployment.drift.profile import Profile

_log = logging.getLogger(__name__)


def measure_drift(
    task: Task,
    sources: Sources,
    drift: Drift,
    folders: Folders,
    earlier_manifest: pd.DataFrame,
    earlier_splits: pd.DataFrame,
) -> dict[str, Any]:
    """Compare new images with those of the model named, the champion, or the newest version.

    Returns:
        what was found, and of which model and images, in JSON types.
    """
    from cxr_pipeline.deployment.drift.checks import check_images

    new = _new_images(task, drift, folders)
    model = tracking.model_name(task.name, phantom=sources.phantom)
    version = tracking.resolve_version(drift.model or tracking.version_in_use(model))
    classifier = tracking.load_classifier(version.uri)
    check_classes(classifier, task.kind, tuple(task.classes), key=f"{task.name}.drift.model")
    stored = stored_profile(version)
    profile = stored or _profile_made(classifier, task, drift, folders, earlier_manifest, earlier_splits)
    place = drift.source.path if drift.source else str(drift.folder)
    about: dict[str, Any] = {"task": task.name, "place": place, "stored": stored is not None}
    found = check_images(new, classifier, profile, drift.model_dump(), **about)
    drawn = drift.source is not None and drift.source.layout == "phantoms"
    return {
        "task": task.name,
        "title": task.title,
        "phantom": drawn or sources.phantom or classifier.provenance.get("images") == "phantom",
        **found,
        "model": {**asdict(version), "digest": classifier.digest},
    }


def render_page(drift_report: Mapping[str, Any]) -> str:
    """Write the page."""
    from cxr_pipeline.report.pages.drift import render_drift

    return render_drift(drift_report)


def _new_images(task: Task, drift: Drift, folders: Folders) -> "NewImages":
    from cxr_pipeline.deployment.drift.new_images import NewImages

    if drift.source is None:
        return NewImages.in_folder(drift.folder, key=f"{task.name}.drift.folder")
    place, layout, options = folders.raw / drift.source.path, drift.source.layout, drift.source.options
    check_source("drift.source", layout, place, classes=task.classes, task=task.name)
    reader = open_source(layout, place, unpacked=folders.unpacked, **options)
    return NewImages.in_listing(read_source(layout, place, **options), reader, task.labels)


def _profile_made(
    classifier: "ImageClassifier",
    task: Task,
    drift: Drift,
    folders: Folders,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
) -> "Profile":
    """Make the profile of a version that brought none, from the training images of today."""
    from cxr_pipeline.deployment.drift.reference import profile_of

    if manifest.empty or splits.empty:
        raise UserError(
            f"There is nothing to compare the new images of {task.name} with: the model's run has left no profile of "
            "its images (drift_profile.npz), and there is no manifest of training images here. Train the model again: "
            f"kedro run --pipeline={task.name}"
        )
    _log.warning("The model's run has left no profile: its images are taken from today's manifest and splits.")
    return profile_of(
        classifier.model,
        classifier.decision_rule,
        PreparedImages(folders.images, classifier.recipe),
        manifest,
        splits,
        max_images=drift.max_images,
        batch_size=drift.batch_size,
        seed=drift.seed,
    )
