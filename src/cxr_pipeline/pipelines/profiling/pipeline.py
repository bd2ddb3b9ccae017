"""The profiling stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.profiling.nodes import profile_images


def create_pipeline() -> Pipeline:
    """Build the reference profile from the model and its images."""
    return Pipeline(
        [
            Node(
                profile_images,
                inputs=["model", "decision_rule", "enhanced_images", "manifest", "splits", "params:drift"],
                outputs="drift_profile",
                name="profile_images",
            )
        ],
        namespace="profiling",
        prefix_datasets_with_namespace=False,
    )
