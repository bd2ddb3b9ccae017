"""The ablation stage."""

from cxr_pipeline.pipelines.ablation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
