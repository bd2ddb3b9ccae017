"""Compare new images with the training images of a registered model version."""

from cxr_pipeline.pipelines.drift.pipeline import create_pipeline
