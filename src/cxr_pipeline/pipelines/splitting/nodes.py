"""Nodes of the splitting stage."""

import pandas as pd

from cxr_pipeline.config import Splitting, Task
from cxr_pipeline.leakage import check_splits
from cxr_pipeline.splits import assign_splits


def split_patients(
    manifest: pd.DataFrame, earlier_splits: pd.DataFrame, splitting: Splitting, task: Task
) -> pd.DataFrame:
    """Deal the patients that have no split yet, and stop if anything leaks."""
    splits = assign_splits(manifest, earlier_splits, **splitting.model_dump(), task=task.name)
    check_splits(manifest, splits, task=task.name)
    return splits
