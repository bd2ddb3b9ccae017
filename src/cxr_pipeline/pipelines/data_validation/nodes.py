"""Nodes of the vetting stage: what is new, and whether it may be trained on."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.data_changes import (
    find_news,
    images_new_to,
    images_not_compared,
    label_columns,
    too_many_relabelled,
    too_much_drift,
    whether_to_train,
)
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.framework.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.tracking import aliases, promotion_records, runs
from cxr_pipeline.tracking.drift_profiles import usable_profile

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

logger = logging.getLogger(__name__)


def look_for_news(
    images: pd.DataFrame, task: Task, sources: Sources, retraining: Retraining, launch: Launch
) -> dict[str, Any]:
    """Compare the images with those of the champion, and tell whether a challenger is to be trained.

    Returns:
        whether to ``train``, and what that rests on; ``stopped``, why not, where a retraining must not go on.

    Raises:
        UserError: the images of the champion are not on record.
    """
    model = tracking.model_name(task.name, phantom=sources.phantom)
    listed = digests.table_digest(images[["sha256", *label_columns(images)]])
    digest = digests.digest(launch.parameters, images=listed)
    champion = aliases.aliases_of(model)[aliases.CHAMPION]
    news = None
    if champion is not None:
        promotion_records.finish_decision(model, champion)
        news = find_news(images, promotion_records.images_of_champion(model, champion))
    decided = promotion_records.decided_version(model, digest)
    train, why = whether_to_train(model, champion, news, decided, n_images=len(images), force=retraining.force)
    logger.info("%s", why)
    if not train:
        runs.set_tags({promotion_records.SKIPPED: "nothing new"})
    stopped = None
    if train and news:
        stopped = too_many_relabelled(news, max_fraction=retraining.max_relabelled_fraction, task=task.name)
    return {
        "task": task.name,
        "phantom": sources.phantom,
        "train": train and stopped is None,
        "stopped": stopped,
        "why": why,
        "model": model,
        "champion": champion,
        "digest": digest,
        "newer": news is None or news.newer,
        "news": asdict(news) if news else None,
    }


def look_for_drift(
    found_news: Mapping[str, Any],
    images: pd.DataFrame,
    task: Task,
    sources: Sources,
    folders: Folders,
    drift: Drift,
    retraining: Retraining,
) -> dict[str, Any]:
    """Compare new images and their labels with the champion's own, before anything is trained.

    Returns:
        what is known by now, with ``drift``: the content of a drift report, and the number of the version compared
        with, ``since``; None where nothing is to be compared. ``stopped`` says why nothing is to be trained, where so.

    Raises:
        UserError: the champion decides between other classes than the task.
    """
    if not (found_news["train"] and found_news["news"]):
        return {**found_news, "drift": None}
    model, champion = found_news["model"], found_news["champion"]
    owner = _owner(model, champion, task)
    new = images_new_to(images, owner.images)
    if (compared := promotion_records.images_compared_after(model, owner.number)) is not None:
        new = images_not_compared(new, compared)
    if new.empty:
        return {**found_news, "drift": None}
    found = {**_compare(new, owner, task, sources, folders, drift), "since": owner.number}
    runs.set_tags({promotion_records.DRIFT: found["verdict"]})
    stopped = None
    if retraining.on_drift == "refuse":
        stopped = too_much_drift(found, model=model, champion=champion, task=task.name)
    return {**found_news, "train": stopped is None, "stopped": stopped, "drift": found}


@dataclass(frozen=True)
class _Owner:
    """The version whose images new ones are compared with; without a profile it cannot be, and is not loaded."""

    number: int
    version: tracking.ModelVersion
    images: pd.DataFrame
    profile: "ReferenceProfile | None"
    classifier: ImageClassifier | None


def _owner(model: str, champion: int, task: Task) -> _Owner:
    """The version that images too few to tell have been new to ever since, if it can still be used; or the champion."""
    earlier = promotion_records.compared_since(model, champion)
    if earlier != champion:
        with suppress(UserError):
            owner = _load(model, earlier, task)
            if owner.profile is not None:
                return owner
    return _load(model, champion, task)


def _load(model: str, number: int, task: Task) -> _Owner:
    version = tracking.resolve_version(f"models:/{model}/{number}")
    images, profile, classifier = promotion_records.images_of_champion(model, number), usable_profile(version), None
    if profile is not None:
        classifier = promotion_records.load_champion(model, number, kind=task.kind, classes=tuple(task.classes))
    return _Owner(number, version, images, profile, classifier)


def _compare(
    new: pd.DataFrame, owner: _Owner, task: Task, sources: Sources, folders: Folders, drift: Drift
) -> dict[str, Any]:
    from cxr_pipeline.deployment.drift.new_images import NewImages, check_new_images

    version, profile, classifier = owner.version, owner.profile, owner.classifier
    if profile is None or classifier is None:
        own = f"{version.name} {version.version} has no profile of its images"
        sentence = f"Whether there is drift cannot be told: {own}."
        return {"verdict": "unknown", "sentence": sentence, "n_new": 0, "families": []}
    images = NewImages(sources.readers(folders), new.reset_index(drop=True))
    found = check_new_images(images, classifier, profile, drift.model_dump(), task=task.name, place="the sources")
    used = {**asdict(version), "digest": classifier.digest}
    return {"task": task.name, "title": task.title, "phantom": sources.phantom, "model": used, **found}
