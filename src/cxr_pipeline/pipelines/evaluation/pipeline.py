"""The evaluation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.evaluation.nodes import draw_figures, measure_test, score_test, write_report


def create_pipeline() -> Pipeline:
    """From the model and the test films to figures and report."""
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
                inputs=["test_scores", "decision_rule", "data_report", "params:task", "params:evaluation"],
                outputs="metrics",
                name="measure_test",
            ),
            Node(
                draw_figures,
                inputs=[
                    "test_scores",
                    "metrics",
                    "history",
                    "enhanced_images",
                    "augmentation_preview",
                    "params:task",
                    "params:training",
                ],
                outputs="figures",
                name="draw_figures",
            ),
            Node(
                write_report,
                inputs={
                    **{name: name for name in ("metrics", "decision_rule", "data_report", "quarantine", "manifest")},
                    **{name: name for name in ("splits", "history", "figures", "parameters")},
                    **{name: f"params:{name}" for name in ("task", "model", "resolution")},
                    "trained": "model",
                },
                outputs="report",
                name="write_report",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
