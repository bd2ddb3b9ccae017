"""Compare every model of every task that was measured on the same test images."""

from cxr_pipeline.pipelines.comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
