"""The ingestion stage."""

from cxr_pipeline.pipelines.ingestion.nodes import list_images
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline from the sources to the table of images."""
    return stage("ingestion", node(list_images, ["images", "refused_rows", "source_counts"]))
