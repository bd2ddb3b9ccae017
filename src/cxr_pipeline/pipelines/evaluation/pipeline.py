"""The evaluation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.evaluation.nodes import measure_subgroups, measure_test, score_test, tabulate


def create_pipeline() -> Pipeline:
    """From the model and the test images to figures with intervals."""
    return Pipeline(
        [
            Node(
                score_test,
                inputs=["model", "decision_rule", "enhanced_images", "manifest", "splits", "params:task"],
                outputs="test_scores",
                name="score_test",
            ),
            Node(
                measure_test,
                inputs=[
                    "validation_scores",
                    "test_scores",
                    "decision_rule",
                    "data_report",
                    "params:task",
                    "params:thresholds",
                    "params:evaluation",
                ],
                outputs="metrics",
                name="measure_test",
            ),
            Node(
                measure_subgroups,
                inputs=["test_scores", "manifest", "params:task", "params:evaluation", "params:subgroups"],
                outputs="subgroups",
                name="measure_subgroups",
            ),
            Node(
                tabulate,
                inputs=["test_scores", "params:task"],
                outputs=["classification_report", "confusion_table"],
                name="tabulate",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
