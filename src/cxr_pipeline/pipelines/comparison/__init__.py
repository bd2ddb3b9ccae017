"""The comparison of models of all tasks."""

from cxr_pipeline.pipelines.comparison.pipeline import create_pipeline
