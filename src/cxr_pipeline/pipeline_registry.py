"""The pipelines of ``kedro run --pipeline``, by name."""

import os
from importlib import import_module

from kedro.pipeline import Pipeline

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.framework.config_loader import task_names
from cxr_pipeline.framework.invalid_parameters import SHARED as SHARED_PARAMETERS
from cxr_pipeline.framework.shown_pipelines import OPENED, shown_pipelines

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
    "learning_curve": (*PREPARATION, "learning_curve"),
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
    tasks = task_names()
    for task in tasks:
        of_task = {task: whole, **{f"{task}_{name}": stages for name, stages in others.items()}}
        if taken := of_task.keys() & {*pipelines, *SHARED_PARAMETERS, "defaults"}:
            raise UserError(
                f"'{task}' cannot be the name of a task: there is another '{taken.pop()}'. Rename its block."
            )
        pipelines |= {name: _of_task(stages, task) for name, stages in of_task.items()}
    if (opened := os.environ.get(OPENED)) is not None:
        return shown_pipelines(pipelines, tasks, OTHERS, opened)
    return {"__default__": pipelines[tasks[0]], **pipelines}


def pipeline_of(*stages: str) -> Pipeline:
    """Return the pipeline of one or more stages."""
    modules = [import_module(f"cxr_pipeline.pipelines.{stage}") for stage in stages]
    return sum((module.create_pipeline() for module in modules), Pipeline([]))


def _of_task(stages: Pipeline, task: str) -> Pipeline:
    shared = SHARED & stages.inputs()
    parameters = {name for name in shared if name.startswith("params:")}
    return Pipeline(stages, namespace=task, inputs=shared - parameters, parameters=parameters)
