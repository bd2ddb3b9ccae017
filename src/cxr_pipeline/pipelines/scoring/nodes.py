"""Nodes of the scoring stage."""

import logging
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_pipeline import __version__, tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.scoring import Predictions, check_classes, find_images, score_folder, summarise
from cxr_pipeline.framework.config import Drift, Folders, Scoring, Sources, Task
from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.tracking.drift_profiles import usable_profile

if TYPE_CHECKING:
    from cxr_pipeline.deployment.scoring.ood_screening import Lookout

_log = logging.getLogger(__name__)


def score_images(
    task: Task, sources: Sources, scoring: Scoring, drift: Drift, folders: Folders
) -> tuple[Predictions, dict[str, Any]]:
    """Score every image below the folder with the model named, or the one in use.

    Returns:
        predictions, and the record of what made them.

    Raises:
        UserError: the images, taken together, are unlike those that the model comes from, and are to be refused then.
    """
    started = datetime.now(UTC)
    images = find_images(scoring.folder, key=f"{task.name}.scoring.folder")
    name = tracking.model_name(task.name, phantom=sources.phantom)
    asked = scoring.model or tracking.version_in_use(name)
    version = tracking.resolve_version(asked)
    why = "named by scoring.model" if scoring.model else "the champion"
    if not scoring.model and asked == version.uri:
        why = f"the newest version, since none of {name} has the alias champion"
    _log.info("Images are scored by %s: %s.", version.uri, why)
    classifier = tracking.load_classifier(version.uri)
    check_classes(classifier, task.kind, tuple(task.classes), key=f"{task.name}.scoring.model")
    lookout = _lookout(classifier, version, scoring, drift)
    beside = folders.outputs / task.name
    heatmaps = beside / "heatmaps" if scoring.heatmaps else None
    predictions = score_folder(
        classifier,
        images,
        scored_by=version.uri,
        parts=beside / "predictions.parts",
        batch_size=scoring.batch_size,
        heatmaps=heatmaps,
        lookout=lookout,
    )
    compared = _compared(predictions, lookout, task, scoring, drift, beside)
    if heatmaps is None:
        shutil.rmtree(beside / "heatmaps", ignore_errors=True)
    _write_parquet(predictions, beside / "predictions.parquet", asked=scoring.parquet)
    return predictions, {
        **asdict(version),
        "chosen": why,
        "folder": str(images.root),
        **summarise(predictions, classifier),
        **compared,
        "code": __version__,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _lookout(
    classifier: ImageClassifier, version: tracking.ModelVersion, scoring: Scoring, drift: Drift
) -> "Lookout | None":
    """Make what compares the images with those of the model; None where its run has left no profile of them."""
    from cxr_pipeline.deployment.scoring.ood_screening import Lookout

    profile = usable_profile(version)
    if profile is None:
        return None
    asked = scoring.model_dump(include={"unlike", "false_alarms"})
    lookout = Lookout(classifier, profile, **asked, **drift.model_dump(include={"min_images", "max_images", "seed"}))
    if not lookout.likeness.compared:
        _log.warning(
            "The profile of %s has too few images to tell which are unlike them: none is flagged.", version.uri
        )
    return lookout


def _compared(
    predictions: Predictions, lookout: "Lookout | None", task: Task, scoring: Scoring, drift: Drift, beside: Path
) -> dict[str, Any]:
    """Compare the images, taken together, with those of the model, and put on record what was asked and found."""
    from cxr_pipeline.deployment.drift.detection import detect_drift

    if lookout is None:
        return {"unlike": None, "drift": None}
    parameters = drift.model_dump(include={"max_images", "min_images", "alpha", "limits", "seed"})
    seen = lookout.observed(predictions.observed())
    settings = drift.model_dump(include={"min_images", "alpha", "limits", "seed"})
    found = detect_drift(lookout.profile, seen, **settings)
    told = _log.warning if found.verdict in ("warn", "refuse") else _log.info
    told("Drift of the images, of which %d were compared: %s. %s", found.n_new, found.verdict, found.sentence)
    if found.verdict == scoring.on_drift == "refuse":
        # Whoever reads them next must not take those of an earlier folder for these.
        for suffix in ("csv", "json", "parquet"):
            (beside / f"predictions.{suffix}").unlink(missing_ok=True)
        predictions.lock.release()
        raise UserError(_refusal(found.sentence, found.n_new, task.name, scoring.folder))
    asked = scoring.model_dump(include={"unlike", "false_alarms"})
    families = {family.name: family.verdict for family in found.families}
    verdict = {"verdict": found.verdict, "sentence": found.sentence, "n_images": found.n_new, "families": families}
    return {
        "unlike": {**asked, "compared": list(lookout.likeness.compared)},
        "drift": {"on_drift": scoring.on_drift, **parameters, **verdict},
    }


def _refusal(sentence: str, n_images: int, task: str, folder: str | None) -> str:
    return (
        f"No predictions are written, and earlier ones are removed: the images, of which {n_images:,} were compared, are "
        f"unlike those that the model comes from. {sentence} Look at them; kedro run --pipeline={task}_drift --params "
        f"{task}.drift.folder={folder} shows how they differ. What was scored is kept: to have the predictions even "
        f"so, run the same command with {task}.scoring.on_drift=warn."
    )


def _write_parquet(predictions: Predictions, file: Path, *, asked: bool) -> None:
    """Write the predictions in the other form, or see to it that none of an earlier run are taken for these."""
    if asked:
        TableDataset(filepath=str(file)).save(predictions)
    else:
        file.unlink(missing_ok=True)
