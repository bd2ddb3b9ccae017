"""Ask where the network looks."""

from cxr_pipeline.pipelines.explanation.pipeline import create_pipeline
