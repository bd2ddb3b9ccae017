"""The data validation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.pipelines.data_validation.nodes import find_changes, validate_changes


def create_pipeline() -> Pipeline:
    """Compare the current images with those of the champion, and validate what changed."""
    return Pipeline(
        [
            Node(
                find_changes,
                inputs=["images", "params:task", "params:sources", "params:folders", "params:retraining", CURRENT_RUN],
                outputs="data_changes",
                name="find_changes",
            ),
            Node(
                validate_changes,
                inputs=[
                    "data_changes",
                    "images",
                    "params:task",
                    "params:sources",
                    "params:folders",
                    "params:drift",
                    "params:retraining",
                ],
                outputs="validated_changes",
                name="validate_changes",
            ),
        ],
        namespace="data_validation",
        prefix_datasets_with_namespace=False,
    )
