"""The promotion stage. Its nodes move no alias if there is no challenger."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment import promotion as rule
from cxr_pipeline.deployment.data_changes import check_unseen
from cxr_pipeline.experiments.task_run import RunOutputs
from cxr_pipeline.framework.config import Evaluation, Folders, Resolution, Retraining, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.pages.promotion_record import decision_files, decision_name, decision_record, stop_record
from cxr_pipeline.tracking import aliases, artifacts, promotion_records

logger = logging.getLogger(__name__)


def score_champion(
    challenger: Mapping[str, Any],
    validated_changes: Mapping[str, Any],
    splits: pd.DataFrame,
    task: Task,
    sources: Sources,
    folders: Folders,
    resolution: Resolution,
) -> pd.DataFrame:
    """Score the challenger's test images with the champion, by its own recipe and decision rule."""
    model, version = validated_changes["model"], validated_changes["champion"]
    if not challenger or version is None:
        return pd.DataFrame()
    outputs = RunOutputs(Path(challenger["folder"]), task.name)
    images = select_split(outputs.load("manifest"), outputs.load("splits"), "test")
    check_unseen(images, artifacts.images_of_champion(model, version), splits, version=f"{model} {version}")
    champion = promotion_records.load_champion(model, version, kind=task.kind, classes=tuple(task.classes))
    settings: dict[str, Any] = {"outputs": task.outputs, "folder": folders.images, "workers": resolution.workers}
    return rule.score_images(champion, images, sources.readers(folders), **settings)


def decide_promotion(
    challenger: Mapping[str, Any],
    champion_scores: pd.DataFrame,
    validated_changes: Mapping[str, Any],
    task: Task,
    evaluation: Evaluation,
    retraining: Retraining,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Compare challenger and champion on the same images and apply the promotion rule."""
    if challenger:
        outputs, bootstrap = RunOutputs(Path(challenger["folder"]), task.name), evaluation.bootstrap
        metrics, comparison = outputs.load("metrics"), None
        if validated_changes["champion"] is not None:
            settings: dict[str, Any] = {"outputs": task.outputs, "exclusive": task.exclusive, "bootstrap": bootstrap}
            comparison = rule.compare(outputs.load("test_scores"), champion_scores, **settings)
        differences = comparison["differences"] if comparison else None
        decision = rule.decide(
            metrics["metrics"], differences, **retraining.rule, newer_data=validated_changes["newer"]
        )
        about = {"challenger": challenger, "metrics": metrics, "changes": validated_changes, "rule": retraining.rule}
        record = decision_record(decision, comparison, **about, bootstrap=bootstrap)
    elif validated_changes.get("stopped"):
        record = stop_record(validated_changes)
    else:
        return {}, {"model": validated_changes["model"]}
    files = decision_files(record)
    artifacts.log_texts(files, "decisions")
    return files, record


def move_aliases(promotion: Mapping[str, Any]) -> dict[str, int | None]:
    """Tag the version with the reasons, move the aliases according to the decision, and tag the version with it."""
    model = promotion["model"]
    if not promotion.get("challenger"):
        if "decision" in promotion:
            promotion_records.note_stop(model, promotion["reasons"])
        return aliases.aliases_of(model)
    version, champion, drift = promotion["challenger"]["version"], promotion["champion"], promotion["drift"]
    verdict = drift["verdict"] if drift else None
    promotion_records.note_reasons(
        model, version, promotion["reasons"], trained_by=promotion["trained_by"], drift=verdict
    )
    # Before the champion, because an interrupted run must not leave a champion with untested images.
    reference = _reference(promotion)
    if reference is not None:
        aliases.set_reference(model, reference)
    if promotion["promoted"]:
        numbers = aliases.promote(model, version, over=champion["version"] if champion else None)
    else:
        numbers = aliases.keep_as_challenger(model, version)
    promotion_records.note_decision(model, version, promoted=promotion["promoted"])
    outcome = "is the new champion" if promotion["promoted"] else "is not promoted"
    logger.info("%s %d %s. %s", model, version, outcome, " ".join(promotion["reasons"]))
    return numbers


def _reference(promotion: Mapping[str, Any]) -> int | None:
    """Return the version that the next new images are compared with; None to keep the current one.

    Images that were too few to check stay new until there are enough: the reference stays the version without them. A
    version below the floors, such as a collapsed network, is no reference.
    """
    drift = promotion["drift"]
    if drift and drift["verdict"] == "unknown":
        number: int = drift["model"]["version"]
        return number
    return promotion["challenger"]["version"] if all(floor["met"] for floor in promotion["floors"]) else None


def fail_if_stopped(promotion: Mapping[str, Any], aliases_after: Mapping[str, int | None]) -> None:
    """Fail the run if the retraining was stopped, after its record was written."""
    if promotion.get("decision") == "stopped":
        record = f"decisions/{decision_name(promotion)}.md"
        raise UserError(f"{' '.join(promotion['reasons'])} (See the record {record} in the reports of the task.)")


def create_pipeline() -> Pipeline:
    """Create the stage that compares the challenger with the champion and moves the aliases."""
    return stage(
        "promotion",
        node(score_champion, "champion_scores"),
        node(decide_promotion, ["decisions", "promotion"]),
        node(move_aliases, "aliases"),
        node(fail_if_stopped, None, aliases_after="aliases"),
    )
