"""The explanation stage."""

from cxr_pipeline.pipelines.explanation.nodes import draw_heatmaps, explain_test, find_boxes
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from the model and its decisions on the test images to heat maps."""
    return stage(
        "explanation",
        node(find_boxes, "boxes"),
        node(explain_test, "explanations"),
        node(draw_heatmaps, "heatmaps"),
    )
