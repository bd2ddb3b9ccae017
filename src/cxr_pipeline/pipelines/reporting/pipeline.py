"""The reporting stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.reporting.nodes import draw_figures, write_report

_DOCUMENTS = (
    "metrics",
    "decision_rule",
    "data_report",
    "confounding",
    "confusion_table",
    "subgroups",
    "explanations",
    "classification_report",
    "quarantine",
    "manifest",
    "splits",
    "history",
    "figures",
    "heatmaps",
    "augmentation_preview",
    "parameters",
)


def create_pipeline() -> Pipeline:
    """From everything that is known of a model to the page that its reader opens."""
    return Pipeline(
        [
            Node(
                draw_figures,
                inputs={
                    **{name: name for name in ("test_scores", "metrics", "history", "enhanced_images")},
                    **{name: name for name in ("manifest", "splits", "classification_report")},
                    **{name: f"params:{name}" for name in ("task", "training")},
                },
                outputs="figures",
                name="draw_figures",
            ),
            Node(
                write_report,
                inputs={
                    **{name: name for name in _DOCUMENTS},
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
