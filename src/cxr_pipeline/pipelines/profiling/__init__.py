"""Build the reference profile that drift of new images is measured against."""

from cxr_pipeline.pipelines.profiling.pipeline import create_pipeline
