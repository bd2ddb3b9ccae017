"""The retraining stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.pipelines.retraining.nodes import extend_splits, train_challenger


def create_pipeline() -> Pipeline:
    """Train a challenger and add its splits to the split registry."""
    return Pipeline(
        [
            Node(
                train_challenger,
                inputs=["validated_changes", "earlier_splits", "params:task", "params:folders", CURRENT_RUN],
                outputs="challenger",
                name="train_challenger",
            ),
            Node(
                extend_splits,
                inputs=["challenger", "earlier_splits", "params:task"],
                outputs="splits",
                name="extend_splits",
            ),
        ],
        namespace="retraining",
        prefix_datasets_with_namespace=False,
    )
