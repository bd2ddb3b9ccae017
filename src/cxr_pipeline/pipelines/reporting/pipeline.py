"""The reporting stage."""

from cxr_pipeline.pipelines.reporting.nodes import draw_figures, write_report
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline that draws the figures and writes the report and the model card.

    They are written after the version is registered, because they name it.
    """
    return stage(
        "reporting",
        node(draw_figures, "figures"),
        node(write_report, ["reports", "model_card", "report"], trained="model"),
    )
