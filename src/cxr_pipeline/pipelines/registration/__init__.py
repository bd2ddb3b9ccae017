"""Register the model version in MLflow."""

from cxr_pipeline.pipelines.registration.pipeline import create_pipeline
