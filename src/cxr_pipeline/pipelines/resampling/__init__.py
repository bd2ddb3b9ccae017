"""Resampling stage: plan how often each training image is shown, and preview its augmentation."""

from cxr_pipeline.pipelines.resampling.pipeline import create_pipeline
