"""The thresholds stage."""

from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.pipelines.thresholds.nodes import fit_decision_rule, score_validation


def create_pipeline() -> Pipeline:
    """Create the stage from the model and the validation images to the decision rule."""
    return stage(
        "thresholds",
        node(score_validation, "validation_scores"),
        node(fit_decision_rule, "decision_rule"),
    )
