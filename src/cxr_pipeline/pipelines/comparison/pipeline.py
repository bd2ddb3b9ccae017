"""The comparison of models, which belongs to no task."""

from cxr_pipeline.pipelines.comparison.nodes import rank_models
from cxr_pipeline.pipelines.stage import Pipeline, node
from cxr_pipeline.report.pages.leaderboard import render_leaderboard


def create_pipeline() -> Pipeline:
    """Create the pipeline that ranks the models of all tasks on a leaderboard."""
    return Pipeline(
        [node(rank_models, "leaderboard"), node(render_leaderboard, "leaderboard_page", table="leaderboard")]
    )
