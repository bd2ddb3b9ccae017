"""The scoring stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.scoring.nodes import score_films


def create_pipeline() -> Pipeline:
    """From a folder of new films to predictions."""
    return Pipeline(
        [
            Node(
                score_films,
                inputs=["params:task", "params:sources", "params:scoring", "params:drift", "params:folders"],
                outputs=["predictions", "scoring_record"],
                name="score_films",
            )
        ],
        namespace="scoring",
        prefix_datasets_with_namespace=False,
    )
