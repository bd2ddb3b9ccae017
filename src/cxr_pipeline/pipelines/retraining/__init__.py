"""Train a challenger on what is new."""

from cxr_pipeline.pipelines.retraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
