"""The training stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.training.nodes import fit_model


def create_pipeline() -> Pipeline:
    """From prepared images and the sampling plan to a fitted model."""
    return Pipeline(
        [
            Node(
                fit_model,
                inputs=[
                    "enhanced_images",
                    "manifest",
                    "splits",
                    "sampling_plan",
                    "params:task",
                    "params:model",
                    "params:training",
                    "params:augmentation",
                    "params:folders",
                ],
                outputs=["model", "history"],
                name="fit_model",
            )
        ],
        namespace="training",
        prefix_datasets_with_namespace=False,
    )
