"""The resolution stage."""

from cxr_pipeline.pipelines.resolution.nodes import finalise_manifest, report_data, resize_images
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the stage from the table of images to prepared images, manifest and quarantine.

    Images are decoded here, once; all refusals are known only then.
    """
    return stage(
        "resolution",
        node(resize_images, ["resized_images", "refused_images"]),
        node(finalise_manifest, ["manifest", "quarantine"]),
        node(report_data, "data_report"),
    )
