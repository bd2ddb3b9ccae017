"""Find data changes and decide whether they may be trained on."""

from cxr_pipeline.pipelines.data_validation.pipeline import create_pipeline
