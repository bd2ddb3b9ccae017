"""The retraining stage."""

from cxr_pipeline.pipelines.retraining.nodes import extend_splits, train_challenger
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage that trains a challenger and adds its splits to the split registry."""
    return stage(
        "retraining",
        node(train_challenger, "challenger"),
        node(extend_splits, "splits"),
    )
