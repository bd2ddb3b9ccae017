"""The registration stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.data_changes import images_used, with_patients
from cxr_pipeline.deployment.promotion import decide
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.framework.config import Augmentation, Evaluation, Folders, Retraining, Task
from cxr_pipeline.framework.pretraining import PRETRAINED_ON
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.pages.promotion_record import decision_files, decision_record
from cxr_pipeline.tracking import aliases, artifacts, promotion_records, runs, versions


def register_model(
    model: Any,
    decision_rule: Mapping[str, Any],
    enhanced_images: PreparedImages,
    metrics: Mapping[str, Any],
    data_report: Mapping[str, Any],
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    refused_images: pd.DataFrame,
    drift_profile: Any,
    warnings: list[str],
    pretraining: Mapping[str, Any],
    task: Task,
    augmentation: Augmentation,
    evaluation: Evaluation,
    folders: Folders,
) -> dict[str, Any]:
    """Register the model as a version, and log its metrics, images and reference profile to the run."""
    # The evaluation stage also logged them, but possibly to an earlier run that was killed.
    runs.log_summary(metrics, data_digest=data_report["data_digest"])
    images = with_patients(images_used(manifest, splits, refused_images), manifest, folders.patient_key)
    name = aliases.model_name(task.name, phantom=data_report["phantom"])
    tags = {"git_commit": git_commit(), "kedro_pipeline": task.name, "test_digest": metrics["images_digest"]}
    if pretraining.get("trained_on"):
        tags[PRETRAINED_ON] = ",".join(pretraining["trained_on"])
    tags |= artifacts.log_images(images, name=name, key_file=folders.patient_key)
    artifacts.log_profile(drift_profile)
    provenance = {
        "task": task.name,
        "images": "phantom" if data_report["phantom"] else "real",
        "data_digest": data_report["data_digest"],
    }
    averaged = evaluation.average_views(model, augmentation)
    classifier = ImageClassifier(averaged, enhanced_images.recipe, rule_from_dict(decision_rule), provenance)
    return versions.register_version(classifier, metrics=metrics, warnings=warnings, tags=tags)


def decide_first_champion(
    model_version: Mapping[str, Any], metrics: Mapping[str, Any], evaluation: Evaluation, retraining: Retraining
) -> tuple[dict[str, str], dict[str, Any]]:
    """Decide by the floors whether the version becomes the champion; no decision if there is a champion."""
    model = model_version["name"]
    if aliases.aliases_of(model)[aliases.CHAMPION] is not None:
        return {}, {"model": model}
    why = f"It was trained by kedro run --pipeline={metrics['task']}."
    record = decision_record(
        decide(metrics["metrics"], None, **retraining.rule, newer_data=True),
        None,
        challenger=model_version,
        metrics=metrics,
        changes={"model": model, "champion": None, "why": why, "changes": None, "drift": None, "digest": None},
        rule=retraining.rule,
        bootstrap=evaluation.bootstrap,
    )
    files = decision_files(record)
    artifacts.log_texts(files, "decisions")
    return files, record


def make_champion(promotion: Mapping[str, Any]) -> dict[str, int | None]:
    """Carry out the decision, and return the aliases."""
    model = promotion["model"]
    if "decision" in promotion:
        version, promoted = promotion["challenger"]["version"], promotion["promoted"]
        promotion_records.note_reasons(model, version, promotion["reasons"])
        if promoted:
            aliases.promote(model, version, over=None)
        promotion_records.note_decision(model, version, promoted=promoted)
    return aliases.aliases_of(model)


def create_pipeline() -> Pipeline:
    """Create the pipeline that registers an evaluated model in MLflow, and makes the first one the champion."""
    return stage(
        "registration",
        node(register_model, "model_version"),
        node(decide_first_champion, ["decisions", "promotion"]),
        node(make_champion, "aliases"),
    )
