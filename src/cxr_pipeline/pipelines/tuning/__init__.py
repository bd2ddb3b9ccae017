"""The tuning stage."""

from cxr_pipeline.pipelines.tuning.pipeline import create_pipeline
