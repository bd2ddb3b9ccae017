"""The ingestion stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.ingestion.nodes import list_images


def create_pipeline() -> Pipeline:
    """Create the pipeline from the sources to the table of images."""
    return Pipeline(
        [
            Node(
                list_images,
                inputs=["params:sources", "params:folders", "params:task"],
                outputs=["images", "refused_rows", "source_counts"],
                name="list_images",
            )
        ],
        namespace="ingestion",
        prefix_datasets_with_namespace=False,
    )
