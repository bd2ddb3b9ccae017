"""The drift stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.drift.nodes import measure_drift, render_page


def create_pipeline() -> Pipeline:
    """Compare new images with a registered model version and render the page."""
    return Pipeline(
        [
            Node(
                measure_drift,
                inputs=[
                    "params:task",
                    "params:sources",
                    "params:drift",
                    "params:folders",
                    "earlier_manifest",
                    "earlier_splits",
                ],
                outputs="drift_report",
                name="measure_drift",
            ),
            Node(render_page, inputs="drift_report", outputs="drift_page", name="render_page"),
        ],
        namespace="drift",
        prefix_datasets_with_namespace=False,
    )
