"""The resolution stage."""

from kedro.pipeline import Node, Pipeline

from cxr_pipeline.pipelines.resolution.nodes import finalise_manifest, report_data, resize_images


def create_pipeline() -> Pipeline:
    """Create the stage from the table of images to prepared images, manifest and quarantine.

    Images are decoded here, once. Only then are all refusals known.
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
                finalise_manifest,
                inputs=["images", "refused_rows", "refused_images", "params:task"],
                outputs=["manifest", "quarantine"],
                name="finalise_manifest",
            ),
            Node(
                report_data,
                inputs=["manifest", "quarantine", "source_counts", "params:sources", "params:ingestion", "params:task"],
                outputs="data_report",
                name="report_data",
            ),
        ],
        namespace="resolution",
        prefix_datasets_with_namespace=False,
    )
