"""Check, before a long training, that a training can be believed."""

from cxr_pipeline.pipelines.sanity.pipeline import create_pipeline

__all__ = ["create_pipeline"]
