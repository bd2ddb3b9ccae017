"""Keep, beside a model, the profile of its images that drift is measured against."""

from cxr_pipeline.pipelines.profiling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
