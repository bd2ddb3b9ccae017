"""The comparison, over all tasks."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.comparison.nodes import rank_models, write_page


def create_pipeline() -> Pipeline:
    """From what MLflow knows to a leaderboard."""
    return Pipeline(
        [
            Node(rank_models, inputs=None, outputs="leaderboard", name="rank_models"),
            Node(write_page, inputs="leaderboard", outputs="leaderboard_page", name="write_page"),
        ]
    )
