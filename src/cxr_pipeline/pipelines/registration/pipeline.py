"""The registration stage."""

from cxr_pipeline.pipelines.registration.nodes import register_model
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline that registers an evaluated model in MLflow."""
    return stage("registration", node(register_model, "model_version"))
