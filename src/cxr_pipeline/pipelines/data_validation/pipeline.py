"""The data validation stage."""

from cxr_pipeline.pipelines.data_validation.nodes import find_changes, validate_changes
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage that compares the current images with those of the champion and validates the changes."""
    return stage(
        "data_validation",
        node(find_changes, "data_changes"),
        node(validate_changes, "validated_changes"),
    )
