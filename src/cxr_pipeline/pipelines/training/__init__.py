"""Fit the network."""

from cxr_pipeline.pipelines.training.pipeline import create_pipeline
