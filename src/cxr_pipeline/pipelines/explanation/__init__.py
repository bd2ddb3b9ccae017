"""Ask where the network looks."""

from cxr_pipeline.pipelines.explanation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
