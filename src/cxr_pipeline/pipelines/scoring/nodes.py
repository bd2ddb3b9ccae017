"""Nodes of the scoring stage."""

import shutil
from dataclasses import asdict
from typing import Any

import pandas as pd

from cxr_pipeline import registry
from cxr_pipeline.config import Folders, Scoring, Sources, Task
from cxr_pipeline.scoring import check_classes, find_films, score_folder, summarise


def score_films(
    task: Task, sources: Sources, scoring: Scoring, folders: Folders
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every film below the folder with the model named, or the newest of the task.

    Returns:
        predictions, and the record of what made them.
    """
    root, films = find_films(scoring.folder, key=f"{task.name}.scoring.folder")
    newest_of = registry.model_name(task.name, phantom=sources.phantom)
    version = registry.resolve_version(scoring.model or registry.newest_version(newest_of))
    classifier = registry.load_classifier(version.uri)
    check_classes(classifier, task.kind, tuple(task.classes), key=f"{task.name}.scoring.model")
    heatmaps = folders.outputs / task.name / "heatmaps"
    shutil.rmtree(heatmaps, ignore_errors=True)
    drawn = heatmaps if scoring.heatmaps else None
    predictions = score_folder(classifier, root, films, batch_size=scoring.batch_size, heatmaps=drawn)
    return predictions, {**asdict(version), "folder": str(root), **summarise(predictions, classifier)}
