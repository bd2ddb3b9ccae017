"""The data validation stage."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.data_changes import (
    PATIENT,
    find_data_changes,
    hash_patients,
    images_to_check,
    label_columns,
    should_train,
    too_many_relabelled,
    too_much_drift,
)
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.task_run import TaskRun
from cxr_pipeline.framework.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import aliases, artifacts, promotion_records, runs, versions

logger = logging.getLogger(__name__)


def find_changes(
    images: pd.DataFrame, task: Task, sources: Sources, folders: Folders, retraining: Retraining, current_run: TaskRun
) -> dict[str, Any]:
    """Compare the images with those of the champion, and decide whether to train a challenger and whether to stop."""
    if current_run.parameters.get("splitting", {}).get("renew"):
        raise UserError(
            f"Retraining keeps the splits, so {task.name}.splitting.renew has to be false. To renew the splits: "
            f"kedro run --pipeline={task.name} --params {task.name}.splitting.renew=true"
        )
    model = aliases.model_name(task.name, phantom=sources.phantom)
    data = digests.table_digest(images[["sha256", "patient_id", *label_columns(images)]])
    digest = digests.result_digest(current_run.parameters, images=data)
    champion = aliases.aliases_of(model)[aliases.CHAMPION]
    changes = None
    if champion is not None:
        promotion_records.finish_decision(model, champion)
        # Hashes with another key cannot be compared.
        if artifacts.hashed_with(model, champion, folders.patient_key):
            images = images.assign(**{PATIENT: hash_patients(images, folders.patient_key)})
        changes = find_data_changes(images, artifacts.images_of_champion(model, champion))
    decided = promotion_records.decided_version(model, digest)
    train, why = should_train(model, champion, changes, decided, n_images=len(images), force=retraining.force)
    logger.info("%s", why)
    stopped = None
    if not train:
        runs.set_tags({promotion_records.SKIPPED: "nothing new"})
    elif changes:
        stopped = too_many_relabelled(changes, max_fraction=retraining.max_relabelled_fraction, task=task.name)
    return {
        "task": task.name,
        "phantom": sources.phantom,
        "train": train and stopped is None,
        "stopped": stopped,
        "why": why,
        "model": model,
        "champion": champion,
        "digest": digest,
        "newer": changes is None or changes.newer,
        "changes": asdict(changes) if changes is not None else None,
    }


def validate_changes(
    data_changes: Mapping[str, Any],
    images: pd.DataFrame,
    task: Task,
    sources: Sources,
    folders: Folders,
    drift: Drift,
    retraining: Retraining,
) -> dict[str, Any]:
    """Compare new images and their labels with those of the reference version, before training."""
    from cxr_pipeline.deployment.drift.detection import NewImages, check_new_images

    if not (data_changes["train"] and data_changes["changes"]):
        return {**data_changes, "drift": None}
    model, champion = data_changes["model"], data_changes["champion"]
    version, known, profile, classifier = _load_reference(model, champion, task)
    new = images_to_check(images, known, artifacts.images_of_champion(model, champion))
    if new.empty:
        return {**data_changes, "drift": None}
    about = {"task": task.name, "title": task.title, "phantom": sources.phantom}
    if profile is None:
        sentence = f"Drift cannot be tested: {version.name} {version.version} has no reference profile."
        report = {**about, "verdict": "unknown", "sentence": sentence, "n_new": 0, "families": []}
        report["model"] = asdict(version)
    else:
        new_images = NewImages(sources.readers(folders), new.reset_index(drop=True))
        where: dict[str, Any] = {"about": about, "version": asdict(version), "place": "the sources"}
        report = check_new_images(new_images, classifier, profile, drift.model_dump(), **where)
    runs.set_tags({promotion_records.DRIFT: report["verdict"]})
    stopped = None
    if retraining.on_drift == "refuse":
        stopped = too_much_drift(report, model=model, champion=champion, task=task.name)
    return {**data_changes, "train": stopped is None, "stopped": stopped, "drift": report}


def _load_reference(model: str, champion: int, task: Task) -> tuple[versions.ModelVersion, pd.DataFrame, Any, Any]:
    """Load the version with the alias reference, or the champion if it cannot be used."""
    number = aliases.aliases_of(model)[aliases.REFERENCE]
    if number is not None and number != champion:
        with suppress(UserError):
            reference = _load(model, number, task)
            if reference[2] is not None:
                return reference
    return _load(model, champion, task)


def _load(model: str, number: int, task: Task) -> tuple[versions.ModelVersion, pd.DataFrame, Any, Any]:
    """Load a version, its images, its reference profile and its classifier, both None without a profile."""
    version = versions.resolve_version(f"models:/{model}/{number}")
    images, profile, classifier = artifacts.images_of_champion(model, number), artifacts.usable_profile(version), None
    if profile is not None:
        classifier = promotion_records.load_champion(model, number, kind=task.kind, classes=tuple(task.classes))
    return version, images, profile, classifier


def create_pipeline() -> Pipeline:
    """Create the stage that compares the current images with those of the champion and validates the changes."""
    return stage(
        "data_validation",
        node(find_changes, "data_changes"),
        node(validate_changes, "validated_changes"),
    )
