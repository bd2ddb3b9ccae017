"""The promotion stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.promotion.nodes import decide_promotion, fail_if_stopped, move_aliases, score_champion


def create_pipeline() -> Pipeline:
    """Compare the challenger with the champion, decide, write the record and move the aliases."""
    return Pipeline(
        [
            Node(
                score_champion,
                inputs=[
                    "challenger",
                    "validated_changes",
                    "splits",
                    "params:task",
                    "params:sources",
                    "params:folders",
                    "params:resolution",
                ],
                outputs="champion_scores",
                name="score_champion",
            ),
            Node(
                decide_promotion,
                inputs=[
                    "challenger",
                    "champion_scores",
                    "validated_changes",
                    "params:task",
                    "params:evaluation",
                    "params:retraining",
                ],
                outputs=["decisions", "promotion"],
                name="decide_promotion",
            ),
            Node(move_aliases, inputs=["promotion"], outputs="aliases", name="move_aliases"),
            Node(fail_if_stopped, inputs=["promotion", "aliases"], outputs=None, name="fail_if_stopped"),
        ],
        namespace="promotion",
        prefix_datasets_with_namespace=False,
    )
