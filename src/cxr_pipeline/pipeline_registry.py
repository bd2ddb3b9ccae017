"""The pipelines of ``kedro run --pipeline``, by name."""

from types import ModuleType

from kedro.pipeline import Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.framework.config import TASKS
from cxr_pipeline.pipelines import (
    ablation,
    comparison,
    data_validation,
    drift,
    evaluation,
    explanation,
    ingestion,
    morphology,
    profiling,
    promotion,
    registration,
    reporting,
    resampling,
    resolution,
    retraining,
    rollback,
    sanity,
    scoring,
    splitting,
    thresholds,
    training,
    tuning,
)

PREPARATION = (ingestion, resolution, morphology, splitting)
STAGES = (
    *PREPARATION,
    resampling,
    training,
    thresholds,
    evaluation,
    explanation,
    reporting,
    profiling,
    registration,
)
# The other pipelines of a task: name and stages.
OTHERS = {
    "scoring": (scoring,),
    "sanity": (*PREPARATION, resampling, sanity),
    "ablation": (*PREPARATION, ablation),
    "tuning": (*PREPARATION, tuning),
    "retraining": (ingestion, data_validation, retraining, promotion),
    "rollback": (rollback,),
    "drift": (drift,),
}
SHARED_PARAMETERS = {"params:folders"}
SHARED_INPUTS = {CURRENT_RUN}


def register_pipelines() -> dict[str, Pipeline]:
    """Instantiate each generic pipeline once for each task, and add the comparison of all tasks.

    Returns:
        name to pipeline; ``__default__`` is the first task.
    """
    whole = _sum(STAGES)
    others = {name: _sum(stages) for name, stages in OTHERS.items()}
    pipelines = {"comparison": comparison.create_pipeline()}
    for task in TASKS:
        pipelines[task] = _of_task(whole, task)
        pipelines |= {f"{task}_{name}": _of_task(stages, task) for name, stages in others.items()}
    return {"__default__": pipelines[TASKS[0]], **pipelines}


def _sum(stages: tuple[ModuleType, ...]) -> Pipeline:
    return sum((stage.create_pipeline() for stage in stages), Pipeline([]))


def _of_task(stages: Pipeline, task: str) -> Pipeline:
    inputs = stages.inputs()
    return Pipeline(stages, namespace=task, inputs=SHARED_INPUTS & inputs, parameters=SHARED_PARAMETERS & inputs)
