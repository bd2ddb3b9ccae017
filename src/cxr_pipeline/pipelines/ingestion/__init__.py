"""Ingestion stage: list the images of all sources in one table."""

from cxr_pipeline.pipelines.ingestion.pipeline import create_pipeline
