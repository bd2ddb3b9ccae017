"""The splitting stage."""

from cxr_pipeline.pipelines.splitting.nodes import measure_confounding, split_patients
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def create_pipeline() -> Pipeline:
    """Create the pipeline from the manifest to the splits."""
    return stage(
        "splitting",
        node(split_patients, ["former_splits", "splits"]),
        node(measure_confounding, "confounding"),
    )
