"""The drift stage."""

from cxr_pipeline.pipelines.drift.nodes import measure_drift
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.pages.drift import render_drift


def create_pipeline() -> Pipeline:
    """Compare new images with a registered model version and render the page."""
    return stage(
        "drift",
        node(measure_drift, "drift_report"),
        node(render_drift, "drift_page", report="drift_report"),
    )
