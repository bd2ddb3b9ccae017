"""The sanity stage."""

from kedro.pipeline import Pipeline

from cxr_pipeline.pipelines.sanity.nodes import check_sanity, draw_sanity, require_sanity
from cxr_pipeline.pipelines.stage import node, stage


def create_pipeline() -> Pipeline:
    """Create the stage that checks training before a long run; a failed check fails the run."""
    return stage(
        "sanity",
        node(check_sanity, "sanity_report"),
        node(draw_sanity, "sanity_figure"),
        node(require_sanity, None),
    )
