"""Every pipeline that ``kedro run --pipeline`` knows, by name."""

from kedro.pipeline import Pipeline

from cxr_pipeline.config import TASKS
from cxr_pipeline.pipelines import (
    evaluation,
    explanation,
    ingestion,
    morphology,
    registration,
    reporting,
    resampling,
    resolution,
    scoring,
    splitting,
    thresholds,
    training,
)

STAGES = (
    ingestion,
    resolution,
    morphology,
    splitting,
    resampling,
    training,
    thresholds,
    evaluation,
    explanation,
    reporting,
    registration,
)
SHARED_PARAMETERS = {"params:folders"}


def register_pipelines() -> dict[str, Pipeline]:
    """One generic pipeline, once for each task.

    Returns:
        name to pipeline; ``__default__`` is the first task.
    """
    whole = sum((stage.create_pipeline() for stage in STAGES), Pipeline([]))
    pipelines = {}
    for task in TASKS:
        pipelines[task] = _of_task(whole, task)
        pipelines[f"{task}_scoring"] = _of_task(scoring.create_pipeline(), task)
    return {"__default__": pipelines[TASKS[0]], **pipelines}


def _of_task(stages: Pipeline, task: str) -> Pipeline:
    shared = SHARED_PARAMETERS & stages.inputs()
    return Pipeline(stages, namespace=task, parameters=shared)
