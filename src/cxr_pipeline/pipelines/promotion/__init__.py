"""Compare a challenger with the champion and promote it by the promotion rule."""

from cxr_pipeline.pipelines.promotion.pipeline import create_pipeline
