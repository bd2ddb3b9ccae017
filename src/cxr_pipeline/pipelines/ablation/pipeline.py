"""The ablation stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.experiments.cells import LAUNCH
from cxr_pipeline.pipelines.ablation.nodes import judge_cells, report_cells, run_cells, tabulate_cells


def create_pipeline() -> Pipeline:
    """From the splits to a table of cells, each a run of the task's own pipeline with a few parameters changed."""
    return Pipeline(
        [
            Node(
                run_cells,
                inputs=[
                    "data_report",
                    "splits",
                    "params:task",
                    "params:ablation",
                    "params:parallel",
                    "params:folders",
                    LAUNCH,
                ],
                outputs="ablation_cells",
                name="run_cells",
            ),
            Node(
                tabulate_cells,
                inputs=["ablation_cells", "params:task", "params:ablation", "params:evaluation", LAUNCH],
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
                judge_cells,
                inputs=["ablation_cells", "ablation_report", "params:task"],
                outputs=None,
                name="judge_cells",
            ),
        ],
        namespace="ablation",
        prefix_datasets_with_namespace=False,
    )
