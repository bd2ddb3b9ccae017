"""Train a challenger when there is something new to learn."""

from cxr_pipeline.pipelines.retraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
