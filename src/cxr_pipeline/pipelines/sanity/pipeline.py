"""The sanity stage."""

from cxr_pipeline.pipelines.sanity.nodes import check_sanity, require_sanity
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.sanity import sanity_figure


def create_pipeline() -> Pipeline:
    """Create the stage that checks training before a long run; a failed check fails the run."""
    return stage(
        "sanity",
        node(check_sanity, "sanity_report"),
        node(sanity_figure, "sanity_figure", report="sanity_report"),
        node(require_sanity, None),
    )
