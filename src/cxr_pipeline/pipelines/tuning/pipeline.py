"""The tuning stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.cells import LAUNCH
from cxr_pipeline.pipelines.tuning.nodes import (
    draw_search,
    search_parameters,
    write_best_parameters,
    write_tuning_report,
)


def create_pipeline() -> Pipeline:
    """From prepared images and a search space to the best parameters and a page about them."""
    return Pipeline(
        [
            Node(
                search_parameters,
                inputs={
                    **{name: name for name in ("enhanced_images", "data_report", "splits", LAUNCH)},
                    **{name: f"params:{name}" for name in ("task", "training", "tuning", "parallel", "folders")},
                },
                outputs=["tuning_trials", "tuning_study"],
                name="search_parameters",
            ),
            Node(
                write_best_parameters,
                inputs=["tuning_study", "params:task", LAUNCH],
                outputs="best_parameters",
                name="write_best_parameters",
            ),
            Node(draw_search, inputs=["tuning_trials", "tuning_study"], outputs="tuning_figures", name="draw_search"),
            Node(
                write_tuning_report,
                inputs=["tuning_trials", "tuning_study", "tuning_figures", "params:task", LAUNCH],
                outputs="tuning_report",
                name="write_tuning_report",
            ),
        ],
        namespace="tuning",
        prefix_datasets_with_namespace=False,
    )
