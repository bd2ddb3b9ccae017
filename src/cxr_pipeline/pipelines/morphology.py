"""The morphology stage."""

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.config import Morphology
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def enhance_images(resized_images: PreparedImages, manifest: pd.DataFrame, morphology: Morphology) -> PreparedImages:
    """Apply the steps to the images that are not in the store; without steps, nothing is written."""
    steps = tuple(step.model_dump() for step in morphology.steps)
    return resized_images.enhanced(manifest["sha256"].tolist(), steps)


def create_pipeline() -> Pipeline:
    """Create the stage from resized to enhanced images."""
    return stage("morphology", node(enhance_images, "enhanced_images"))
