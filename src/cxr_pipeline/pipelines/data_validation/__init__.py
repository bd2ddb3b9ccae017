"""Find data changes and decide whether to train on them."""

from cxr_pipeline.pipelines.data_validation.pipeline import create_pipeline
