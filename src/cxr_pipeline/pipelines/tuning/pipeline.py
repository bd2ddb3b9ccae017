"""The tuning stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.pipelines.tuning.nodes import (
    draw_search,
    search_parameters,
    write_best_parameters,
    write_tuning_report,
)


def create_pipeline() -> Pipeline:
    """Create the stage that searches for the best parameters and writes a page about the search."""
    return Pipeline(
        [
            Node(
                search_parameters,
                inputs={
                    **{name: name for name in ("enhanced_images", "data_report", "splits", CURRENT_RUN)},
                    **{name: f"params:{name}" for name in ("training", "tuning", "parallel", "folders")},
                },
                outputs=["tuning_trials", "tuning_study"],
                name="search_parameters",
            ),
            Node(
                write_best_parameters,
                inputs=["tuning_study", CURRENT_RUN],
                outputs="best_parameters",
                name="write_best_parameters",
            ),
            Node(draw_search, inputs=["tuning_trials", "tuning_study"], outputs="tuning_figures", name="draw_search"),
            Node(
                write_tuning_report,
                inputs=["tuning_trials", "tuning_study", "tuning_figures", "params:task", CURRENT_RUN],
                outputs="tuning_report",
                name="write_tuning_report",
            ),
        ],
        namespace="tuning",
        prefix_datasets_with_namespace=False,
    )
