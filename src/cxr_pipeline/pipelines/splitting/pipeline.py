"""The splitting stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.splitting.nodes import measure_confounding, split_patients


def create_pipeline() -> Pipeline:
    """Create the pipeline from the manifest to the splits."""
    return Pipeline(
        [
            Node(
                split_patients,
                inputs=["manifest", "earlier_splits", "params:splitting", "params:task"],
                outputs="splits",
                name="split_patients",
            ),
            Node(
                measure_confounding,
                inputs=["manifest", "splits", "params:task"],
                outputs="confounding",
                name="measure_confounding",
            ),
        ],
        namespace="splitting",
        prefix_datasets_with_namespace=False,
    )
