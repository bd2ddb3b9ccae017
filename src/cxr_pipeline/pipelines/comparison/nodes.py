"""Nodes of the comparison stage."""

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.experiments.leaderboard import leaderboard


def rank_models() -> pd.DataFrame:
    """Rank the registered versions and ablation cells in MLflow."""
    return leaderboard(tracking.measured_models())
