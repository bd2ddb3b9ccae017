"""The sanity stage."""

from cxr_pipeline.pipelines.sanity.pipeline import create_pipeline
