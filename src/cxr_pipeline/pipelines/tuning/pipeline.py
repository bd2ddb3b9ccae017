"""The tuning stage."""

from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.pipelines.tuning import nodes
from cxr_pipeline.report.pages.tuning import draw_tuning


def create_pipeline() -> Pipeline:
    """Create the stage that searches for the best parameters and writes a page about the search."""
    return stage(
        "tuning",
        node(nodes.search_parameters, ["tuning_trials", "tuning_study"]),
        node(nodes.write_best_parameters, "best_parameters"),
        node(draw_tuning, "tuning_figures", trials="tuning_trials", study="tuning_study"),
        node(nodes.write_tuning_report, "tuning_report"),
    )
