"""Nodes of the promotion stage. Where there is no challenger, they pass that on and move nothing."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment import promotion as rule
from cxr_pipeline.deployment.champion_scoring import judge_images
from cxr_pipeline.deployment.data_changes import check_unseen
from cxr_pipeline.experiments.run_outputs import Outputs
from cxr_pipeline.framework.config import Evaluation, Folders, Resolution, Retraining, Sources, Task
from cxr_pipeline.report.pages.promotion_record import decision_files, decision_name, decision_record, stop_record
from cxr_pipeline.tracking import aliases, promotion_records

logger = logging.getLogger(__name__)


def score_champion(
    challenger: Mapping[str, Any],
    news: Mapping[str, Any],
    splits: pd.DataFrame,
    task: Task,
    sources: Sources,
    folders: Folders,
    resolution: Resolution,
) -> pd.DataFrame:
    """Let the champion judge the challenger's test images, with its own recipe and its own frozen rule.

    Returns:
        a decided score table; empty where nothing is new or there is no champion.

    Raises:
        UserError: the champion learned from some of these images or their patients.
    """
    if not challenger or news["champion"] is None:
        return pd.DataFrame()
    images = Outputs(Path(challenger["folder"]), task.name).test_images
    used = promotion_records.images_of_champion(news["model"], news["champion"])
    check_unseen(images, used, splits, version=f"{news['model']} {news['champion']}")
    readers = sources.readers(folders)
    champion = promotion_records.load_champion(
        news["model"], news["champion"], kind=task.kind, classes=tuple(task.classes)
    )
    settings: dict[str, Any] = {"outputs": task.outputs, "folder": folders.images, "workers": resolution.workers}
    return judge_images(champion, images, readers, **settings)


def decide_promotion(
    challenger: Mapping[str, Any],
    champion_scores: pd.DataFrame,
    news: Mapping[str, Any],
    task: Task,
    evaluation: Evaluation,
    retraining: Retraining,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Compare the two on the same images, and decide as the rule says.

    Returns:
        the files of the decision record, and its content; nothing but the model's name where nothing is new.
    """
    if not challenger and not news.get("stopped"):
        return {}, {"model": news["model"]}
    record = (
        _record(challenger, champion_scores, news, task, evaluation, retraining) if challenger else stop_record(news)
    )
    files = decision_files(record)
    promotion_records.log_texts(files, "decisions")
    return files, record


def _record(
    challenger: Mapping[str, Any],
    champion_scores: pd.DataFrame,
    news: Mapping[str, Any],
    task: Task,
    evaluation: Evaluation,
    retraining: Retraining,
) -> dict[str, Any]:
    outputs, bootstrap = Outputs(Path(challenger["folder"]), task.name), evaluation.model_dump()
    scores, metrics = outputs.test_scores, outputs.metrics
    comparison = None
    if news["champion"] is not None:
        settings: dict[str, Any] = {"outputs": task.outputs, "exclusive": task.exclusive, "bootstrap": bootstrap}
        comparison = rule.compare(scores, champion_scores, **settings)
    conditions = retraining.model_dump(exclude={"force", "max_relabelled_fraction", "on_drift"})
    differences = comparison.differences if comparison else None
    decision = rule.decide(metrics["metrics"], differences, **conditions, newer_data=news["newer"])
    return decision_record(
        decision, comparison, challenger=challenger, metrics=metrics, news=news, rule=conditions, bootstrap=bootstrap
    )


def put_in_use(promotion: Mapping[str, Any]) -> dict[str, int | None]:
    """Write the reasons on the version, move the aliases as it was decided, and note that it is done.

    Returns:
        the version of each alias.

    Raises:
        UserError: the champion is another one than at the time of the comparison.
    """
    model = promotion["model"]
    if not promotion.get("challenger"):
        if "decision" in promotion:
            promotion_records.note_stop(promotion["reasons"])
        return aliases.aliases_of(model)
    version, champion = promotion["challenger"]["version"], promotion["champion"]
    if drift := promotion.get("drift"):
        promotion_records.note_drift(model, version, drift["verdict"], since=drift["since"])
    promotion_records.note_reasons(model, version, promotion["reasons"], trained_by=promotion["trained_by"])
    if promotion["promoted"]:
        given = aliases.promote(model, version, over=champion["version"] if champion else None)
    else:
        given = aliases.keep_as_challenger(model, version)
    promotion_records.note_decision(model, version, promoted=promotion["promoted"])
    verdict = "is the champion now" if promotion["promoted"] else "is not promoted"
    logger.info("%s %d %s. %s", model, version, verdict, " ".join(promotion["reasons"]))
    return given


def end_if_stopped(promotion: Mapping[str, Any], given: Mapping[str, int | None]) -> None:
    """End the run where the retraining was stopped; its record is written by then.

    Raises:
        UserError: why, and which record says more.
    """
    if promotion.get("decision") == "stopped":
        record = f"decisions/{decision_name(promotion)}.md"
        raise UserError(f"{' '.join(promotion['reasons'])} (The record is {record}, among the task's reports.)")
