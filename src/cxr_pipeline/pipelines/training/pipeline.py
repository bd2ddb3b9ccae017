"""The training stage."""

from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.pipelines.training.nodes import fit_model


def create_pipeline() -> Pipeline:
    """Create the stage from prepared images and the sampling plan to a fitted model."""
    return stage("training", node(fit_model, ["model", "history"]))
