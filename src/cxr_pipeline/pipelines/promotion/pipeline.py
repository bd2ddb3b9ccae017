"""The promotion stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.promotion.nodes import decide_promotion, end_if_stopped, put_in_use, score_champion


def create_pipeline() -> Pipeline:
    """From a challenger to the aliases: judged on the images that the champion judges too, and promoted or not."""
    return Pipeline(
        [
            Node(
                score_champion,
                inputs=[
                    "challenger",
                    "news",
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
                    "news",
                    "params:task",
                    "params:evaluation",
                    "params:retraining",
                ],
                outputs=["decisions", "promotion"],
                name="decide_promotion",
            ),
            Node(put_in_use, inputs=["promotion"], outputs="aliases", name="put_in_use"),
            Node(end_if_stopped, inputs=["promotion", "aliases"], outputs=None, name="end_if_stopped"),
        ],
        namespace="promotion",
        prefix_datasets_with_namespace=False,
    )
