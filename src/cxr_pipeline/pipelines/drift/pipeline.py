"""The drift stage."""

from kedro.pipeline import Pipeline

from cxr_pipeline.pipelines.drift.nodes import measure_drift, render_page
from cxr_pipeline.pipelines.stage import node, stage


def create_pipeline() -> Pipeline:
    """Compare new images with a registered model version and render the page."""
    return stage(
        "drift",
        node(measure_drift, "drift_report"),
        node(render_page, "drift_page"),
    )
