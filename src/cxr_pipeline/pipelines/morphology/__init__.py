"""Apply the configured image operations to the prepared images."""

from cxr_pipeline.pipelines.morphology.pipeline import create_pipeline
