"""The splitting stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.splitting.nodes import split_patients


def create_pipeline() -> Pipeline:
    """From the manifest to the splits."""
    return Pipeline(
        [
            Node(
                split_patients,
                inputs=["manifest", "earlier_splits", "params:splitting", "params:task"],
                outputs="splits",
                name="split_patients",
            )
        ],
        namespace="splitting",
        prefix_datasets_with_namespace=False,
    )
