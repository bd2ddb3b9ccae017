"""The promotion stage."""

from cxr_pipeline.pipelines.promotion.nodes import decide_promotion, fail_if_stopped, move_aliases, score_champion
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage that compares the challenger with the champion and moves the aliases."""
    return stage(
        "promotion",
        node(score_champion, "champion_scores"),
        node(decide_promotion, ["decisions", "promotion"]),
        node(move_aliases, "aliases"),
        node(fail_if_stopped, None, aliases_after="aliases"),
    )
