"""The ablation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.pipelines.ablation.nodes import check_cells, report_cells, run_cells, tabulate_cells


def create_pipeline() -> Pipeline:
    """Create the stage that runs the task's own pipeline with a few parameters changed and compares the results."""
    return Pipeline(
        [
            Node(
                run_cells,
                inputs=[
                    "data_report",
                    "splits",
                    "params:ablation",
                    "params:parallel",
                    "params:folders",
                    CURRENT_RUN,
                ],
                outputs="ablation_cells",
                name="run_cells",
            ),
            Node(
                tabulate_cells,
                inputs=["ablation_cells", "params:task", "params:ablation", "params:evaluation", CURRENT_RUN],
                outputs="ablation_table",
                name="tabulate_cells",
            ),
            Node(
                report_cells,
                inputs=["ablation_table", "data_report", "params:task", "params:evaluation"],
                outputs=["ablation_figure", "ablation_report"],
                name="report_cells",
            ),
            Node(
                check_cells,
                inputs=["ablation_cells", "ablation_report", "params:task"],
                outputs=None,
                name="check_cells",
            ),
        ],
        namespace="ablation",
        prefix_datasets_with_namespace=False,
    )
