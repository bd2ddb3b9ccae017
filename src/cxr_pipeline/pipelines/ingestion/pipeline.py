"""The ingestion stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.ingestion.nodes import list_films


def create_pipeline() -> Pipeline:
    """From the sources to the table of films."""
    return Pipeline(
        [
            Node(
                list_films,
                inputs=["params:sources", "params:folders", "params:task"],
                outputs=["films", "refused_rows", "source_counts"],
                name="list_films",
            )
        ],
        namespace="ingestion",
        prefix_datasets_with_namespace=False,
    )
