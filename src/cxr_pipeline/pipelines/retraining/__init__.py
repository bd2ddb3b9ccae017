"""Train a challenger on changed data."""

from cxr_pipeline.pipelines.retraining.pipeline import create_pipeline
