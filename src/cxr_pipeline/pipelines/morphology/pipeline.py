"""The morphology stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.morphology.nodes import enhance_images


def create_pipeline() -> Pipeline:
    """Create the stage from resized to enhanced images."""
    return Pipeline(
        [
            Node(
                enhance_images,
                inputs=["resized_images", "manifest", "params:morphology"],
                outputs="enhanced_images",
                name="enhance_images",
            )
        ],
        namespace="morphology",
        prefix_datasets_with_namespace=False,
    )
