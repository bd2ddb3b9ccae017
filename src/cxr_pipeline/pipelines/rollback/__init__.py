"""Put the previous champion back."""

from cxr_pipeline.pipelines.rollback.pipeline import create_pipeline

__all__ = ["create_pipeline"]
