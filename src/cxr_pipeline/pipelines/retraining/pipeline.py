"""The retraining stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.cells import LAUNCH
from cxr_pipeline.pipelines.retraining.nodes import extend_splits, look_for_news, train_challenger


def create_pipeline() -> Pipeline:
    """From the table of films to a challenger, and to the split ledger with its patients in it."""
    return Pipeline(
        [
            Node(
                look_for_news,
                inputs=["films", "params:task", "params:sources", "params:retraining", LAUNCH],
                outputs="news",
                name="look_for_news",
            ),
            Node(
                train_challenger,
                inputs=["news", "earlier_splits", "params:task", "params:folders", LAUNCH],
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
