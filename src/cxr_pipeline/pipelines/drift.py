"""The drift stage."""

from dataclasses import asdict
from typing import Any

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import check_source
from cxr_pipeline.framework.config import Drift, Folders, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.pages.drift import render_drift
from cxr_pipeline.tracking import aliases, versions
from cxr_pipeline.tracking.artifacts import stored_profile


def measure_drift(task: Task, sources: Sources, drift: Drift, folders: Folders) -> dict[str, Any]:
    """Compare new images with those of a model: ``drift.model``, the champion, or the newest version."""
    from cxr_pipeline.deployment.drift.detection import NewImages, check_new_images

    source = drift.source
    if source is None:
        new_images = NewImages.from_folder(drift.folder, key=f"{task.name}.drift.folder")
    else:
        check_source("drift.source", source.layout, folders.raw / source.path, classes=task.classes, task=task.name)
        new_images = NewImages.from_listing(source.list_images(folders), source.reader(folders), task.labels)
    model = aliases.model_name(task.name, phantom=sources.phantom)
    version, _ = versions.choose_version(model, drift.model)
    version.tag_run()
    classifier = versions.load_classifier(version.uri)
    classifier.check_classes(task.kind, tuple(task.classes), model=f"The model named by {task.name}.drift.model")
    profile = stored_profile(version)
    if profile is None:
        raise UserError(
            f"The new images of {task.name} cannot be compared: the run of {version.uri} stored no reference profile "
            f"(drift_profile.npz). Train the model again: kedro run --pipeline={task.name}"
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
    )


def create_pipeline() -> Pipeline:
    """Compare new images with a registered model version and render the page."""
    return stage(
        "drift",
        node(measure_drift, "drift_report"),
        node(render_drift, "drift_page", report="drift_report"),
    )
