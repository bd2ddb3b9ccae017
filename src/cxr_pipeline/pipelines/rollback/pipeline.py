"""The rollback stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.rollback.nodes import roll_back


def create_pipeline() -> Pipeline:
    """Restore the previous champion."""
    return Pipeline(
        [Node(roll_back, inputs=["params:task", "params:sources"], outputs="aliases", name="roll_back")],
        namespace="rollback",
        prefix_datasets_with_namespace=False,
    )
