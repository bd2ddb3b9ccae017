"""Splitting stage: assign patients to train, validation and test."""

from cxr_pipeline.pipelines.splitting.pipeline import create_pipeline
