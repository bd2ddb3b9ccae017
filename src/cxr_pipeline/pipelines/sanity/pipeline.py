"""The sanity stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.sanity.nodes import check_sanity, draw_sanity, require_sanity


def create_pipeline() -> Pipeline:
    """Create the stage that checks a training before it is run; a failed check fails the run."""
    return Pipeline(
        [
            Node(
                check_sanity,
                inputs=[
                    "enhanced_images",
                    "manifest",
                    "splits",
                    "sampling_plan",
                    "data_report",
                    "params:task",
                    "params:model",
                    "params:training",
                    "params:sanity",
                    "params:folders",
                ],
                outputs="sanity_report",
                name="check_sanity",
            ),
            Node(draw_sanity, inputs="sanity_report", outputs="sanity_figure", name="draw_sanity"),
            Node(
                require_sanity,
                inputs=["sanity_report", "sanity_figure", "params:folders"],
                outputs=None,
                name="require_sanity",
            ),
        ],
        namespace="sanity",
        prefix_datasets_with_namespace=False,
    )
