"""Compute and evaluate heat maps."""

from cxr_pipeline.pipelines.explanation.pipeline import create_pipeline
