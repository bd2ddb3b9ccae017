"""The resampling stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.resampling.nodes import plan_sampling, preview_augmentation


def create_pipeline() -> Pipeline:
    """Create the pipeline from the splits to the sampling plan."""
    return Pipeline(
        [
            Node(
                plan_sampling,
                inputs=["manifest", "splits", "params:resampling", "params:task"],
                outputs="sampling_plan",
                name="plan_sampling",
            ),
            Node(
                preview_augmentation,
                inputs=["enhanced_images", "sampling_plan", "params:augmentation"],
                outputs="augmentation_preview",
                name="preview_augmentation",
            ),
        ],
        namespace="resampling",
        prefix_datasets_with_namespace=False,
    )
