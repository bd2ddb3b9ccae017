"""The thresholds stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.thresholds.nodes import fit_decision_rule, score_validation


def create_pipeline() -> Pipeline:
    """From the model and the validation images to the decision rule."""
    return Pipeline(
        [
            Node(
                score_validation,
                inputs=["model", "enhanced_images", "manifest", "splits", "params:task"],
                outputs="validation_scores",
                name="score_validation",
            ),
            Node(
                fit_decision_rule,
                inputs=["validation_scores", "params:task", "params:thresholds"],
                outputs="decision_rule",
                name="fit_decision_rule",
            ),
        ],
        namespace="thresholds",
        prefix_datasets_with_namespace=False,
    )
