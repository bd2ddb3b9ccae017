"""Score new images with a registered model version."""

from cxr_pipeline.pipelines.scoring.pipeline import create_pipeline
