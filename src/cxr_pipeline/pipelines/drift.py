"""The drift stage."""

import logging
from dataclasses import asdict
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources import check_source
from cxr_pipeline.framework.config import Drift, Folders, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.pages.drift import render_drift
from cxr_pipeline.tracking import aliases, versions
from cxr_pipeline.tracking.artifacts import stored_profile

_log = logging.getLogger(__name__)


def measure_drift(
    task: Task,
    sources: Sources,
    drift: Drift,
    folders: Folders,
    earlier_manifest: pd.DataFrame,
    earlier_splits: pd.DataFrame,
) -> dict[str, Any]:
    """Compare new images with those of a model: ``drift.model``, the champion, or the newest version."""
    from cxr_pipeline.deployment.drift.new_images import NewImages, check_new_images

    source = drift.source
    if source is None:
        new_images = NewImages.from_folder(drift.folder, key=f"{task.name}.drift.folder")
    else:
        check_source("drift.source", source.layout, folders.raw / source.path, classes=task.classes, task=task.name)
        new_images = NewImages.from_listing(source.list_images(folders), source.reader(folders), task.labels)
    model = aliases.model_name(task.name, phantom=sources.phantom)
    version = versions.resolve_version(drift.model or versions.version_in_use(model))
    classifier = versions.load_classifier(version.uri)
    classifier.check_classes(task.kind, tuple(task.classes), model=f"The model named by {task.name}.drift.model")
    stored = stored_profile(version)
    images = PreparedImages(folders.images, classifier.recipe)
    profile = stored or _profile_of_training_images(
        classifier, images, earlier_manifest, earlier_splits, drift=drift, task=task.name
    )
    new_are_phantoms = source is not None and source.layout == "phantoms"
    phantom = new_are_phantoms or sources.phantom or classifier.provenance.get("images") == "phantom"
    return check_new_images(
        new_images,
        classifier,
        profile,
        drift.model_dump(),
        about={"task": task.name, "title": task.title, "phantom": phantom},
        version=asdict(version),
        place=source.path if source else str(drift.folder),
        stored=stored is not None,
    )


def _profile_of_training_images(
    classifier: Any, images: PreparedImages, manifest: pd.DataFrame, splits: pd.DataFrame, *, drift: Drift, task: str
) -> Any:
    """Build the profile of a version that has none from the current training images."""
    from cxr_pipeline.deployment.drift.reference_profile import build_reference_profile

    if manifest.empty or splits.empty:
        raise UserError(
            f"The new images of {task} cannot be compared: the run of the model stored no reference profile "
            "(drift_profile.npz), and this project has no manifest of training images. Train the model again: "
            f"kedro run --pipeline={task}"
        )
    _log.warning("The run of the model stored no reference profile. Building one from the current manifest and splits.")
    settings = drift.model_dump(include={"max_images", "batch_size", "seed"})
    return build_reference_profile(classifier.model, classifier.decision_rule, images, manifest, splits, **settings)


def create_pipeline() -> Pipeline:
    """Compare new images with a registered model version and render the page."""
    return stage(
        "drift",
        node(measure_drift, "drift_report"),
        node(render_drift, "drift_page", report="drift_report"),
    )
