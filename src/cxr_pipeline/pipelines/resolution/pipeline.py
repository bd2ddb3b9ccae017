"""The resolution stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.resolution.nodes import report_data, resize_films, settle_manifest


def create_pipeline() -> Pipeline:
    """From the table of films to prepared films, manifest and quarantine.

    Each film is decoded once, here; only then is every refusal known.
    """
    return Pipeline(
        [
            Node(
                resize_films,
                inputs=["films", "params:sources", "params:resolution", "params:folders"],
                outputs=["resized_images", "refused_films"],
                name="resize_films",
            ),
            Node(
                settle_manifest,
                inputs=["films", "refused_rows", "refused_films", "params:task"],
                outputs=["manifest", "quarantine"],
                name="settle_manifest",
            ),
            Node(
                report_data,
                inputs=[
                    "manifest",
                    "quarantine",
                    "source_counts",
                    "params:sources",
                    "params:ingestion",
                    "params:task",
                ],
                outputs="data_report",
                name="report_data",
            ),
        ],
        namespace="resolution",
        prefix_datasets_with_namespace=False,
    )
