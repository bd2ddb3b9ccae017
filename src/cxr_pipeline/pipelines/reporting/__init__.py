"""Draw, and write the page that a reader opens."""

from cxr_pipeline.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
