"""Compare new images with those that a registered model version was trained on."""

from cxr_pipeline.pipelines.drift.pipeline import create_pipeline
