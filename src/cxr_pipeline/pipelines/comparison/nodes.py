"""Nodes of the comparison."""

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.experiments.leaderboard import leaderboard
from cxr_pipeline.report.pages.leaderboard import render_leaderboard


def rank_models() -> pd.DataFrame:
    """Rank what MLflow knows: registered versions, and cells of experiments."""
    return leaderboard(tracking.measured_models())


def write_page(table: pd.DataFrame) -> str:
    """Write the page that shows the ranks."""
    return render_leaderboard(table)
