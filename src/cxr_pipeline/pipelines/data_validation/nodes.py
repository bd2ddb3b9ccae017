"""Nodes of the data validation stage."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.data_changes import (
    find_data_changes,
    images_to_check,
    label_columns,
    should_train,
    too_many_relabelled,
    too_much_drift,
)
from cxr_pipeline.deployment.lineage import PATIENT, hash_patients
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.task_run import TaskRun
from cxr_pipeline.framework.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.tracking import aliases, artifacts, lineage, promotion_records, runs

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

logger = logging.getLogger(__name__)


def find_changes(
    images: pd.DataFrame, task: Task, sources: Sources, folders: Folders, retraining: Retraining, current_run: TaskRun
) -> dict[str, Any]:
    """Compare the images with those of the champion and decide whether to train a challenger.

    Returns:
        Whether to ``train`` and ``why``; the ``changes`` since the ``champion`` (both None without a champion); whether
        the data are ``newer``; the ``digest`` of the retraining; ``stopped``, the reason why retraining must stop, or
        None.

    Raises:
        UserError: The list of the champion's images is missing.
    """
    model = tracking.model_name(task.name, phantom=sources.phantom)
    data = digests.table_digest(images[["sha256", "patient_id", *label_columns(images)]])
    digest = digests.result_digest(current_run.parameters, images=data)
    champion = aliases.aliases_of(model)[aliases.CHAMPION]
    changes = None
    if champion is not None:
        promotion_records.finish_decision(model, champion)
        # Hashes with another key cannot be compared.
        if lineage.hashed_with(model, champion, folders.patient_key):
            images = images.assign(**{PATIENT: hash_patients(images, folders.patient_key)})
        changes = find_data_changes(images, artifacts.images_of_champion(model, champion))
    decided = promotion_records.decided_version(model, digest)
    train, why = should_train(model, champion, changes, decided, n_images=len(images), force=retraining.force)
    logger.info("%s", why)
    if not train:
        runs.set_tags({promotion_records.SKIPPED: "nothing new"})
    stopped = None
    if train and changes:
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
    """Compare new images and their labels with those of the reference version, before training.

    Returns:
        ``data_changes`` with ``drift``: the drift report, None if there are no images to check. ``train`` and
        ``stopped`` are updated.

    Raises:
        UserError: The classes of the champion differ from those of the task.
    """
    if not (data_changes["train"] and data_changes["changes"]):
        return {**data_changes, "drift": None}
    model, champion = data_changes["model"], data_changes["champion"]
    reference = _load_reference(model, champion, task)
    new = images_to_check(images, reference.images, artifacts.images_of_champion(model, champion))
    if new.empty:
        return {**data_changes, "drift": None}
    report = _check(new, reference, task, sources, folders, drift)
    runs.set_tags({promotion_records.DRIFT: report["verdict"]})
    stopped = None
    if retraining.on_drift == "refuse":
        stopped = too_much_drift(report, model=model, champion=champion, task=task.name)
    return {**data_changes, "train": stopped is None, "stopped": stopped, "drift": report}


class _Reference(NamedTuple):
    """The version that new images are compared with; without a profile there is no comparison."""

    version: tracking.ModelVersion
    images: pd.DataFrame
    profile: "ReferenceProfile | None"
    classifier: ImageClassifier | None


def _load_reference(model: str, champion: int, task: Task) -> _Reference:
    """Load the version with the alias reference, or the champion if it cannot be used."""
    number = aliases.aliases_of(model)[aliases.REFERENCE]
    if number is not None and number != champion:
        with suppress(UserError):
            reference = _load(model, number, task)
            if reference.profile is not None:
                return reference
    return _load(model, champion, task)


def _load(model: str, number: int, task: Task) -> _Reference:
    version = tracking.resolve_version(f"models:/{model}/{number}")
    images, profile, classifier = artifacts.images_of_champion(model, number), artifacts.usable_profile(version), None
    if profile is not None:
        classifier = promotion_records.load_champion(model, number, kind=task.kind, classes=tuple(task.classes))
    return _Reference(version, images, profile, classifier)


def _check(
    new: pd.DataFrame, reference: _Reference, task: Task, sources: Sources, folders: Folders, drift: Drift
) -> dict[str, Any]:
    from cxr_pipeline.deployment.drift.new_images import NewImages, check_new_images

    version, _, profile, classifier = reference
    about = {"task": task.name, "title": task.title, "phantom": sources.phantom}
    if profile is None or classifier is None:
        sentence = f"Drift cannot be tested: {version.name} {version.version} has no reference profile."
        report = {"verdict": "unknown", "sentence": sentence, "n_new": 0, "families": []}
        return {**about, **report, "model": asdict(version)}
    new_images = NewImages(sources.readers(folders), new.reset_index(drop=True))
    where: dict[str, Any] = {"about": about, "version": asdict(version), "place": "the sources"}
    return check_new_images(new_images, classifier, profile, drift.model_dump(), **where)
