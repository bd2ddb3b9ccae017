"""The explanation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.explanation.nodes import draw_heatmaps, explain_test, find_boxes


def create_pipeline() -> Pipeline:
    """From the model and its decisions on the test images to where it looks."""
    return Pipeline(
        [
            Node(
                find_boxes,
                inputs=["manifest", "test_scores", "params:sources", "params:folders", "params:task"],
                outputs="boxes",
                name="find_boxes",
            ),
            Node(
                explain_test,
                inputs=["model", "enhanced_images", "test_scores", "boxes", "params:task", "params:evaluation"],
                outputs="explanations",
                name="explain_test",
            ),
            Node(
                draw_heatmaps,
                inputs=["model", "enhanced_images", "test_scores", "boxes", "params:task"],
                outputs="heatmaps",
                name="draw_heatmaps",
            ),
        ],
        namespace="explanation",
        prefix_datasets_with_namespace=False,
    )
