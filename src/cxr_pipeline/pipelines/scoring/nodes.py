"""Nodes of the scoring stage."""

import logging
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxr_pipeline import __version__, registry
from cxr_pipeline.config import Folders, Scoring, Sources, Task
from cxr_pipeline.datasets.table import TableDataset
from cxr_pipeline.scoring import Predictions, check_classes, find_films, score_folder, summarise

_log = logging.getLogger(__name__)


def score_films(task: Task, sources: Sources, scoring: Scoring, folders: Folders) -> tuple[Predictions, dict[str, Any]]:
    """Score every film below the folder with the model named, or the one in use.

    Returns:
        predictions, and the record of what made them.
    """
    started = datetime.now(UTC)
    films = find_films(scoring.folder, key=f"{task.name}.scoring.folder")
    name = registry.model_name(task.name, phantom=sources.phantom)
    asked = scoring.model or registry.version_in_use(name)
    version = registry.resolve_version(asked)
    why = "named by scoring.model" if scoring.model else "the champion"
    if not scoring.model and asked == version.uri:
        why = f"the newest version, since none of {name} has the alias champion"
    _log.info("Films are scored by %s: %s.", version.uri, why)
    classifier = registry.load_classifier(version.uri)
    check_classes(classifier, task.kind, tuple(task.classes), key=f"{task.name}.scoring.model")
    beside = folders.outputs / task.name
    heatmaps = beside / "heatmaps" if scoring.heatmaps else None
    predictions = score_folder(
        classifier,
        films,
        scored_by=version.uri,
        parts=beside / "predictions.parts",
        batch_size=scoring.batch_size,
        heatmaps=heatmaps,
    )
    if heatmaps is None:
        shutil.rmtree(beside / "heatmaps", ignore_errors=True)
    _write_parquet(predictions, beside / "predictions.parquet", asked=scoring.parquet)
    return predictions, {
        **asdict(version),
        "chosen": why,
        "folder": str(films.root),
        **summarise(predictions, classifier),
        "code": __version__,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write_parquet(predictions: Predictions, file: Path, *, asked: bool) -> None:
    """Write the predictions in the other form, or see to it that none of an earlier run are taken for these."""
    if asked:
        TableDataset(filepath=str(file)).save(predictions)
    else:
        file.unlink(missing_ok=True)
