"""Fit calibration and threshold on the validation films."""

from cxr_pipeline.pipelines.thresholds.pipeline import create_pipeline

__all__ = ["create_pipeline"]
