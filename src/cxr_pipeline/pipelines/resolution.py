"""The resolution stage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.data import manifest as manifests
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources.readers import accepting
from cxr_pipeline.framework.config import Folders, Ingestion, Resolution, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def resize_images(
    images: pd.DataFrame, sources: Sources, resolution: Resolution, folders: Folders
) -> tuple[PreparedImages, pd.DataFrame]:
    """Decode and resize the images that are not in the store."""
    readers = sources.readers(folders)
    recipe = Recipe(size=resolution.size, mode=resolution.mode, max_megapixels=resolution.max_megapixels)
    places = zip(images["source"].map(readers), images["path"], strict=True)
    contents = dict(zip(images["sha256"], places, strict=True))
    prepared = PreparedImages(folders.images, accepting(recipe, readers.values()))
    return prepared, prepared.fill(contents, workers=resolution.workers)


def finalise_manifest(
    images: pd.DataFrame, refused_rows: pd.DataFrame, refused_images: pd.DataFrame, task: Task
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the images into the manifest and the quarantine."""
    return manifests.finalise(images, refused_rows, refused_images, task.labels)


def report_data(
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    source_counts: Mapping[str, Any],
    sources: Sources,
    ingestion: Ingestion,
    task: Task,
) -> dict[str, Any]:
    """Describe the data, and stop if too many images were refused."""
    manifests.check_quarantine(manifest, quarantine, task.labels, max_fraction=ingestion.max_quarantined_fraction)
    return manifests.data_report(
        manifest, quarantine, source_counts, classes=tuple(task.classes), phantom=sources.phantom
    )


def create_pipeline() -> Pipeline:
    """Create the stage from the table of images to prepared images, manifest and quarantine.

    Images are decoded here, once; all refusals are known only then.
    """
    return stage(
        "resolution",
        node(resize_images, ["resized_images", "refused_images"]),
        node(finalise_manifest, ["manifest", "quarantine"]),
        node(report_data, "data_report"),
    )
