"""The tuning stage."""

from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.pipelines.tuning import nodes


def create_pipeline() -> Pipeline:
    """Create the stage that searches for the best parameters and writes a page about the search."""
    return stage(
        "tuning",
        node(nodes.search_parameters, ["tuning_trials", "tuning_study"]),
        node(nodes.write_best_parameters, "best_parameters"),
        node(nodes.draw_search, "tuning_figures"),
        node(nodes.write_tuning_report, "tuning_report"),
    )
