"""The evaluation stage."""

from cxr_pipeline.pipelines.evaluation.nodes import find_warnings, measure_subgroups, measure_test, score_test, tabulate
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from the model and the test images to metrics with intervals."""
    return stage(
        "evaluation",
        node(score_test, "test_scores"),
        node(measure_test, "metrics"),
        node(measure_subgroups, "subgroups"),
        node(tabulate, ["classification_report", "confusion_table"]),
        node(find_warnings, "warnings"),
    )
