"""The scoring stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.scoring.nodes import score_images


def create_pipeline() -> Pipeline:
    """From a folder of new images to predictions."""
    return Pipeline(
        [
            Node(
                score_images,
                inputs=["params:task", "params:sources", "params:scoring", "params:drift", "params:folders"],
                outputs=["predictions", "scoring_record"],
                name="score_images",
            )
        ],
        namespace="scoring",
        prefix_datasets_with_namespace=False,
    )
