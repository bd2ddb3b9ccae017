"""The profiling stage."""

from cxr_pipeline.pipelines.profiling.nodes import profile_images
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from the model and its images to the reference profile."""
    return stage("profiling", node(profile_images, "drift_profile"))
