"""Restore the previous champion."""

from cxr_pipeline.pipelines.rollback.pipeline import create_pipeline
