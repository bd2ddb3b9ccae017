"""The pipelines of ``kedro run --pipeline``, by name."""

from importlib import import_module

from kedro.pipeline import Pipeline

from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.framework.config import TASKS

# Modules of cxr_pipeline.pipelines.
PREPARATION = ("ingestion", "resolution", "morphology", "splitting")
STAGES = (
    *PREPARATION,
    "resampling",
    "training",
    "thresholds",
    "evaluation",
    "explanation",
    "profiling",
    "registration",
    "reporting",
)
# The other pipelines of a task: name and stages.
OTHERS = {
    "scoring": ("scoring",),
    "sanity": (*PREPARATION, "resampling", "sanity"),
    "ablation": (*PREPARATION, "ablation"),
    "tuning": (*PREPARATION, "tuning"),
    "retraining": ("ingestion", "data_validation", "retraining", "promotion"),
    "rollback": ("rollback",),
    "drift": ("drift",),
}
# Inputs that are not in the namespace of a task.
SHARED = {"params:folders", CURRENT_RUN}


def register_pipelines() -> dict[str, Pipeline]:
    """Instantiate each generic pipeline once for each task, and add the comparison; the default is the first task."""
    whole = pipeline_of(*STAGES)
    others = {name: pipeline_of(*stages) for name, stages in OTHERS.items()}
    pipelines = {"comparison": pipeline_of("comparison")}
    for task in TASKS:
        pipelines[task] = _of_task(whole, task)
        pipelines |= {f"{task}_{name}": _of_task(stages, task) for name, stages in others.items()}
    return {"__default__": pipelines[TASKS[0]], **pipelines}


def pipeline_of(*stages: str) -> Pipeline:
    """Return the pipeline of one or more stages."""
    modules = [import_module(f"cxr_pipeline.pipelines.{stage}") for stage in stages]
    return sum((module.create_pipeline() for module in modules), Pipeline([]))


def _of_task(stages: Pipeline, task: str) -> Pipeline:
    shared = SHARED & stages.inputs()
    parameters = {name for name in shared if name.startswith("params:")}
    return Pipeline(stages, namespace=task, inputs=shared - parameters, parameters=parameters)
