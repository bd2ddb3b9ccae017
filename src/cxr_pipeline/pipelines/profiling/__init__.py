"""Build the reference profile for drift detection."""

from cxr_pipeline.pipelines.profiling.pipeline import create_pipeline
