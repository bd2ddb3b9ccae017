"""The rollback stage."""

from cxr_pipeline.pipelines.rollback.nodes import roll_back
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline that restores the previous champion."""
    return stage("rollback", node(roll_back, "aliases"))
