"""Draw the figures of a task and write its report and model card."""

from cxr_pipeline.pipelines.reporting.pipeline import create_pipeline
