"""The registration stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.registration.nodes import register_model


def create_pipeline() -> Pipeline:
    """Create the pipeline that registers an evaluated model in MLflow."""
    return Pipeline(
        [
            Node(
                register_model,
                inputs=[
                    "model",
                    "decision_rule",
                    "enhanced_images",
                    "metrics",
                    "data_report",
                    "manifest",
                    "splits",
                    "refused_images",
                    "drift_profile",
                    "model_card",
                    "params:task",
                    "params:folders",
                ],
                outputs="model_version",
                name="register_model",
            )
        ],
        namespace="registration",
        prefix_datasets_with_namespace=False,
    )
