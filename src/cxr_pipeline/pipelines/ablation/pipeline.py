"""The ablation stage."""

from cxr_pipeline.pipelines.ablation.nodes import check_cells, report_cells, run_cells, tabulate_cells
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage that runs the pipeline of the task with different parameters and compares the results."""
    return stage(
        "ablation",
        node(run_cells, "ablation_cells"),
        node(tabulate_cells, "ablation_table"),
        node(report_cells, ["ablation_figure", "ablation_report"]),
        node(check_cells, None),
    )
