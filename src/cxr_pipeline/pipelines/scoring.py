"""The scoring stage."""

import logging
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxr_pipeline import __version__
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.deployment.scoring import Predictions, score_folder, summarise
from cxr_pipeline.framework.config import Drift, Folders, Scoring, Sources, Task
from cxr_pipeline.framework.datasets import TableDataset
from cxr_pipeline.framework.prediction import screening_of
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import aliases, versions

_log = logging.getLogger(__name__)


def score_images(
    task: Task, sources: Sources, scoring: Scoring, drift: Drift, folders: Folders
) -> tuple[Predictions, dict[str, Any]]:
    """Score the images of a folder with the given model, the champion, or the newest version."""
    started = datetime.now(UTC)
    images = find_images(scoring.folder, key=f"{task.name}.scoring.folder")
    name = aliases.model_name(task.name, phantom=sources.phantom)
    version, chosen = versions.choose_version(name, scoring.model)
    version.tag_run()
    _log.info("Images are scored by %s: %s.", version.uri, chosen)
    classifier = versions.load_classifier(version.uri)
    classifier.check_classes(task.kind, tuple(task.classes), model=f"The model named by {task.name}.scoring.model")
    screening = screening_of(classifier, version, scoring, drift)
    if screening is not None and not screening.detector.compared:
        _log.warning(
            "The reference profile of %s has too few images for out-of-distribution screening. No image is flagged.",
            version.uri,
        )
    outputs = folders.outputs / task.name
    predictions = score_folder(
        classifier,
        images,
        scored_by=version.uri,
        parts=outputs / "predictions.parts",
        batch_size=scoring.batch_size,
        heatmaps=outputs / "heatmaps" if scoring.heatmaps else None,
        screening=screening,
    )
    summary = summarise(predictions, classifier)
    checked = _check_drift(predictions, screening, task, scoring, drift, outputs)
    # Heat maps or a Parquet file of an earlier run would not match these predictions.
    if not scoring.heatmaps:
        shutil.rmtree(outputs / "heatmaps", ignore_errors=True)
    if scoring.parquet:
        TableDataset(filepath=str(outputs / "predictions.parquet")).save(predictions)
    else:
        (outputs / "predictions.parquet").unlink(missing_ok=True)
    return predictions, {
        **asdict(version),
        "chosen": chosen,
        "folder": str(images.root),
        **summary,
        **checked,
        "code": __version__,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _check_drift(
    predictions: Predictions, screening: Any, task: Task, scoring: Scoring, drift: Drift, outputs: Path
) -> dict[str, Any]:
    """Compare a sample of the folder with the images of the model, and return the parameters and the verdict."""
    from cxr_pipeline.deployment.drift.detection import detect_drift
    from cxr_pipeline.deployment.drift.image_features import ImageFeatures

    if screening is None or predictions.features is None:
        return {"out_of_distribution": None, "drift": None}
    parameters = drift.model_dump(include={"min_images", "alpha", "limits", "seed"})
    result = detect_drift(screening.profile, ImageFeatures.from_rows(predictions.features), **parameters)
    level = logging.WARNING if result["verdict"] in ("warn", "refuse") else logging.INFO
    _log.log(level, "Drift, %d images compared: %s. %s", result["n_new"], result["verdict"], result["sentence"])
    if result["verdict"] == scoring.on_drift == "refuse":
        # Predictions of an earlier folder must not be mistaken for those of this one.
        for suffix in ("csv", "json", "parquet"):
            (outputs / f"predictions.{suffix}").unlink(missing_ok=True)
        raise UserError(
            f"The images have drifted from those of the model ({result['n_new']:,} images compared). "
            f"{result['sentence']} No predictions are written, and earlier ones are removed. Inspect the images; "
            f"kedro run --pipeline={task.name}_drift --params {task.name}.drift.folder={scoring.folder} shows how "
            "they differ. Scored images are kept. To write the predictions anyway, run the same command with "
            f"{task.name}.scoring.on_drift=warn."
        )
    return {
        "out_of_distribution": {
            "action": scoring.out_of_distribution,
            "false_alarms": scoring.false_alarms,
            "compared": list(screening.detector.compared),
        },
        "drift": {
            **{"on_drift": scoring.on_drift, "max_images": drift.max_images, **parameters},
            **{"verdict": result["verdict"], "sentence": result["sentence"], "n_images": result["n_new"]},
            "families": {family["name"]: family["verdict"] for family in result["families"]},
        },
    }


def create_pipeline() -> Pipeline:
    """Create the stage from a folder of new images to predictions."""
    return stage("scoring", node(score_images, ["predictions", "scoring_record"]))
