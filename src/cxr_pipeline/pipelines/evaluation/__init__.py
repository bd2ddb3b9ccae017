"""Measure on the test films, draw, and write the report."""

from cxr_pipeline.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
