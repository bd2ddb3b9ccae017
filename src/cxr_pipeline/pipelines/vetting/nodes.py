"""Nodes of the vetting stage: what is new, and whether it may be trained on."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from cxr_pipeline import registry
from cxr_pipeline.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.registry import aliases, decisions
from cxr_pipeline.registry.profiles import usable_profile
from cxr_pipeline.retraining import (
    films_new_to,
    find_news,
    label_columns,
    too_many_relabelled,
    too_much_drift,
    whether_to_train,
)

logger = logging.getLogger(__name__)


def look_for_news(
    films: pd.DataFrame, task: Task, sources: Sources, retraining: Retraining, launch: Launch
) -> dict[str, Any]:
    """Compare the films with those of the champion, and tell whether a challenger is to be trained.

    Returns:
        whether to ``train``, and what that rests on; ``stopped``, why not, where a retraining must not go on.

    Raises:
        UserError: the films of the champion are not on record.
    """
    model = registry.model_name(task.name, phantom=sources.phantom)
    listed = cells.table_digest(films[["sha256", *label_columns(films)]])
    digest = cells.digest(launch.parameters, films=listed)
    champion = aliases.aliases_of(model)[aliases.CHAMPION]
    news = None
    if champion is not None:
        decisions.finish_decision(model, champion)
        news = find_news(films, decisions.films_of_champion(model, champion))
    decided = decisions.decided_version(model, digest)
    train, why = whether_to_train(model, champion, news, decided, n_films=len(films), force=retraining.force)
    logger.info("%s", why)
    if not train:
        decisions.tag_run({decisions.SKIPPED: "nothing new"})
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
    films: pd.DataFrame,
    task: Task,
    sources: Sources,
    folders: Folders,
    drift: Drift,
    retraining: Retraining,
) -> dict[str, Any]:
    """Compare the films that are new to the champion, and their labels, with its own, before anything is trained.

    Returns:
        what is known by now, with ``drift``, the content of a drift report; None where there is nothing to compare.
        Where the verdict is ``refuse``, and not to be passed over, ``stopped`` says why nothing is to be trained.

    Raises:
        UserError: the champion decides between other classes than the task.
    """
    if not (found_news["train"] and found_news["news"] and found_news["news"]["new"]):
        return {**found_news, "drift": None}
    model, champion = found_news["model"], found_news["champion"]
    new = films_new_to(films, decisions.films_of_champion(model, champion))
    found = _compare(new, model, champion, task, sources, folders, drift)
    decisions.tag_run({decisions.DRIFT: found["verdict"]})
    stopped = None
    if retraining.on_drift == "refuse":
        stopped = too_much_drift(found, champion=f"{model} {champion}", task=task.name)
    return {**found_news, "train": stopped is None, "stopped": stopped, "drift": found}


def _compare(
    new: pd.DataFrame, model: str, champion: int, task: Task, sources: Sources, folders: Folders, drift: Drift
) -> dict[str, Any]:
    from cxr_pipeline.drift.checks import check_films
    from cxr_pipeline.drift.new_films import NewFilms

    version = registry.resolve_version(f"models:/{model}/{champion}")
    profile = usable_profile(version)
    if profile is None:
        sentence = f"Whether there is drift cannot be told: {model} {champion} has no profile of its films."
        return {"verdict": "unknown", "sentence": sentence, "n_new": 0, "families": []}
    classifier = decisions.load_champion(model, champion, kind=task.kind, classes=tuple(task.classes))
    readers = sources.readers(folders)
    films = NewFilms(readers, new.reset_index(drop=True))
    found = check_films(films, classifier, profile, drift.model_dump(), task=task.name, place="the sources")
    used = {**asdict(version), "digest": classifier.digest}
    return {"task": task.name, "title": task.title, "phantom": sources.phantom, "model": used, **found}
