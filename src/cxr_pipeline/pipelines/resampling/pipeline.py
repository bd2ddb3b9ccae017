"""The resampling stage."""

from cxr_pipeline.pipelines.resampling.nodes import plan_sampling, preview_augmentation
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline from the splits to the sampling plan."""
    return stage(
        "resampling",
        node(plan_sampling, "sampling_plan"),
        node(preview_augmentation, "augmentation_preview"),
    )
