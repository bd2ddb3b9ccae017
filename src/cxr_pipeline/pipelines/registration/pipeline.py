"""The registration stage."""

from cxr_pipeline.pipelines.registration.nodes import decide_first_champion, make_champion, register_model
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline that registers an evaluated model in MLflow, and makes the first one the champion."""
    return stage(
        "registration",
        node(register_model, "model_version"),
        node(decide_first_champion, ["decisions", "promotion"]),
        node(make_champion, "aliases"),
    )
