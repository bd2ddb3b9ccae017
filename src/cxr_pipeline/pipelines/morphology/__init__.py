"""Run the configured image operations over the prepared images."""

from cxr_pipeline.pipelines.morphology.pipeline import create_pipeline

__all__ = ["create_pipeline"]
