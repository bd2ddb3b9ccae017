"""The comparison of models, which belongs to no task."""

import pandas as pd

from cxr_pipeline.experiments.leaderboard import leaderboard
from cxr_pipeline.pipelines.stage import Pipeline, node
from cxr_pipeline.report.pages.leaderboard import render_leaderboard
from cxr_pipeline.tracking import model_index


def rank_models() -> pd.DataFrame:
    """Rank the registered versions and ablation cells in MLflow."""
    return leaderboard(model_index.measured_models())


def create_pipeline() -> Pipeline:
    """Create the pipeline that ranks the models of all tasks on a leaderboard."""
    return Pipeline(
        [node(rank_models, "leaderboard"), node(render_leaderboard, "leaderboard_page", table="leaderboard")]
    )
