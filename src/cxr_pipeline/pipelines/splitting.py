"""The splitting stage."""

import logging
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from cxr_pipeline.data.confounding import source_baseline
from cxr_pipeline.data.leakage import check_splits
from cxr_pipeline.data.splits import assign_splits, count_splits, trained_on
from cxr_pipeline.framework.config import Splitting, Task, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.warnings import confounded, few_patients

logger = logging.getLogger(__name__)


def split_patients(
    manifest: pd.DataFrame, earlier_splits: pd.DataFrame, splitting: Splitting, training: Training, task: Task
) -> tuple[dict[str, bytes], pd.DataFrame]:
    """Assign patients without a split, and stop if the splits leak; return replaced splits by file name, and splits."""
    former: dict[str, bytes] = {}
    if splitting.renew and len(earlier_splits):
        former = {f"splits {datetime.now(UTC):%Y-%m-%d %H.%M.%S.%f}.parquet": earlier_splits.to_parquet(index=False)}
        earlier_splits = earlier_splits.head(0)
    settings = splitting.model_dump(exclude={"renew"})
    splits = assign_splits(manifest, earlier_splits, **settings, task=task.name)
    check_splits(manifest, splits, exclusive=task.single_label, task=task.name)
    if warning := few_patients(count_splits(manifest, trained_on(splits, training.folds), tuple(task.classes))):
        logger.warning("%s", warning)
    return former, splits


def measure_confounding(manifest: pd.DataFrame, splits: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Measure how well the source alone predicts the class, and warn of confounding; empty with one source."""
    baseline = source_baseline(manifest, splits, outputs=task.outputs) or {}
    if warning := confounded({"confounding": baseline}):
        logger.warning("%s", warning)
    return baseline


def create_pipeline() -> Pipeline:
    """Create the pipeline from the manifest to the splits."""
    return stage(
        "splitting",
        node(split_patients, ["former_splits", "splits"]),
        node(measure_confounding, "confounding"),
    )
