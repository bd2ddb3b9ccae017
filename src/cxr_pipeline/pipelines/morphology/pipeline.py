"""The morphology stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.morphology.nodes import enhance_films


def create_pipeline() -> Pipeline:
    """From resized to enhanced films."""
    return Pipeline(
        [
            Node(
                enhance_films,
                inputs=["resized_images", "manifest", "params:morphology"],
                outputs="enhanced_images",
                name="enhance_films",
            )
        ],
        namespace="morphology",
        prefix_datasets_with_namespace=False,
    )
