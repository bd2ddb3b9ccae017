"""The ablation stage."""

from cxr_pipeline.pipelines.ablation.pipeline import create_pipeline
