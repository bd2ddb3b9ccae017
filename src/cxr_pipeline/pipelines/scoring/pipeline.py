"""The scoring stage."""

from cxr_pipeline.pipelines.scoring.nodes import score_images
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from a folder of new images to predictions."""
    return stage("scoring", node(score_images, ["predictions", "scoring_record"]))
