"""Fit calibration and threshold on the validation images."""

from cxr_pipeline.pipelines.thresholds.pipeline import create_pipeline
