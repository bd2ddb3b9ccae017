"""The vetting stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.cells import LAUNCH
from cxr_pipeline.pipelines.data_validation.nodes import look_for_drift, look_for_news


def create_pipeline() -> Pipeline:
    """From the table of images to what is new, and to whether it may be trained on."""
    return Pipeline(
        [
            Node(
                look_for_news,
                inputs=["images", "params:task", "params:sources", "params:retraining", LAUNCH],
                outputs="found_news",
                name="look_for_news",
            ),
            Node(
                look_for_drift,
                inputs=[
                    "found_news",
                    "images",
                    "params:task",
                    "params:sources",
                    "params:folders",
                    "params:drift",
                    "params:retraining",
                ],
                outputs="news",
                name="look_for_drift",
            ),
        ],
        namespace="vetting",
        prefix_datasets_with_namespace=False,
    )
