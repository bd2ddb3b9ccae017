"""The reporting stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.reporting.nodes import draw_figures, write_report

_DRAWN = ("test_scores", "metrics", "history", "enhanced_images", "manifest", "splits", "classification_report")
_WRITTEN = (
    "metrics", "decision_rule", "data_report", "confounding", "confusion_table", "subgroups", "explanations",
    "classification_report", "quarantine", "manifest", "splits", "history", "figures", "heatmaps",
    "augmentation_preview", "parameters",
)  # fmt: skip


def create_pipeline() -> Pipeline:
    """Create the pipeline that draws the figures and writes the report and the model card."""
    return Pipeline(
        [
            Node(
                draw_figures,
                inputs={
                    **{name: name for name in _DRAWN},
                    **{name: f"params:{name}" for name in ("task", "training")},
                },
                outputs="figures",
                name="draw_figures",
            ),
            Node(
                write_report,
                inputs={
                    **{name: name for name in _WRITTEN},
                    **{name: f"params:{name}" for name in ("task", "model", "resolution")},
                    "trained": "model",
                },
                outputs=["report", "model_card"],
                name="write_report",
            ),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
