"""The comparison stage, which belongs to no task."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.comparison.nodes import rank_models, write_page


def create_pipeline() -> Pipeline:
    """Create the stage that ranks the models of all tasks on a leaderboard."""
    return Pipeline(
        [
            Node(rank_models, inputs=None, outputs="leaderboard", name="rank_models"),
            Node(write_page, inputs="leaderboard", outputs="leaderboard_page", name="write_page"),
        ]
    )
