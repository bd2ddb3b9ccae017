"""Read the sources into one table of images."""

from cxr_pipeline.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
