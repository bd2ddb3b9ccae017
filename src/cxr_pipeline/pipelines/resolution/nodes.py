"""Nodes of the resolution stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data import manifest as manifests
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import ImageStore, PreparedFilms
from cxr_pipeline.framework.config import Folders, Ingestion, Resolution, Sources, Task


def resize_films(
    films: pd.DataFrame, sources: Sources, resolution: Resolution, folders: Folders
) -> tuple[PreparedFilms, pd.DataFrame]:
    """Decode and resize each film that the store does not hold yet.

    Returns:
        the handle of the prepared films, and the films that could not be decoded.
    """
    recipe = Recipe(size=resolution.size, mode=resolution.mode, max_megapixels=resolution.max_megapixels)
    readers = sources.readers(folders)
    places = zip(films["source"].map(readers), films["path"], strict=True)
    contents = dict(zip(films["sha256"], places, strict=True))
    refused = ImageStore(folders.images, recipe).fill(contents, workers=resolution.workers)
    return PreparedFilms(folders.images, recipe), refused


def settle_manifest(
    films: pd.DataFrame, refused_rows: pd.DataFrame, refused_films: pd.DataFrame, task: Task
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the films into the usable and the refused.

    Returns:
        manifest and quarantine.
    """
    return manifests.settle(films, refused_rows, refused_films, exclusive=task.single_label)


def report_data(
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    source_counts: Mapping[str, Any],
    sources: Sources,
    ingestion: Ingestion,
    task: Task,
) -> dict[str, Any]:
    """Count what was read, and stop if too much of it was refused."""
    manifests.check_quarantine(manifest, quarantine, max_fraction=ingestion.max_quarantined_fraction, task=task.name)
    return manifests.data_report(
        manifest, quarantine, source_counts, classes=tuple(task.classes), phantom=sources.phantom
    )
