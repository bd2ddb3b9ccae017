"""The resolution stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.resolution.nodes import report_data, resize_images, settle_manifest


def create_pipeline() -> Pipeline:
    """From the table of images to prepared images, manifest and quarantine.

    Each image is decoded once, here; only then is every refusal known.
    """
    return Pipeline(
        [
            Node(
                resize_images,
                inputs=["images", "params:sources", "params:resolution", "params:folders"],
                outputs=["resized_images", "refused_images"],
                name="resize_images",
            ),
            Node(
                settle_manifest,
                inputs=["images", "refused_rows", "refused_images", "params:task"],
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
