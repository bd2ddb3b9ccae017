"""The morphology stage."""

from cxr_pipeline.pipelines.morphology.nodes import enhance_images
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from resized to enhanced images."""
    return stage("morphology", node(enhance_images, "enhanced_images"))
