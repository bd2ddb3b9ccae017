"""The resampling stage."""

import numpy as np
import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.leakage import check_splits
from cxr_pipeline.data.splits import member_splits, select_split
from cxr_pipeline.framework.config import Augmentation, Resampling, Task, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.images import augmentation_preview


def plan_sampling(
    manifest: pd.DataFrame, splits: pd.DataFrame, resampling: Resampling, training: Training, task: Task
) -> pd.DataFrame:
    """Decide how often each training image is shown to each ``member`` of the ensemble, or to the only network.

    The folds of an ensemble are checked first.
    """
    plan = []
    for member, member_split in enumerate(member_splits(splits, training.folds), start=1):
        check_splits(manifest, member_split, exclusive=task.single_label, task=task.name, folds=training.folds)
        rows = select_split(manifest, member_split, "train")
        plan.append(resampling.plan_epoch(rows, task).assign(member=member))
    return pd.concat(plan, ignore_index=True)


def preview_augmentation(
    enhanced_images: PreparedImages, sampling_plan: pd.DataFrame, augmentation: Augmentation
) -> bytes:
    """Draw a few training images next to their augmented views."""
    from cxr_pipeline.training.augmentation import preview

    sha256s = sampling_plan["sha256"].drop_duplicates().sort_values().head(6).tolist()
    images = enhanced_images.read(sha256s)
    views = preview(images, sha256s=sha256s, views=4, augmentation=augmentation.model_dump())
    return augmentation_preview(np.concatenate([images[:, np.newaxis], views], axis=1))


def create_pipeline() -> Pipeline:
    """Create the pipeline from the splits to the sampling plan."""
    return stage(
        "resampling",
        node(plan_sampling, "sampling_plan"),
        node(preview_augmentation, "augmentation_preview"),
    )
