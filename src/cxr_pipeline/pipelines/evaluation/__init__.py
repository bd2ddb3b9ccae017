"""Evaluate the model on the test images."""

from cxr_pipeline.pipelines.evaluation.pipeline import create_pipeline
