"""The tuning stage."""

from kedro.pipeline import Pipeline

from cxr_pipeline.pipelines.stage import node, stage
from cxr_pipeline.pipelines.tuning.nodes import (
    draw_search,
    search_parameters,
    write_best_parameters,
    write_tuning_report,
)


def create_pipeline() -> Pipeline:
    """Create the stage that searches for the best parameters and writes a page about the search."""
    return stage(
        "tuning",
        node(search_parameters, ["tuning_trials", "tuning_study"]),
        node(write_best_parameters, "best_parameters", study="tuning_study"),
        node(draw_search, "tuning_figures", trials="tuning_trials", study="tuning_study"),
        node(
            write_tuning_report, "tuning_report", trials="tuning_trials", study="tuning_study", figures="tuning_figures"
        ),
    )
