"""The tuning stage."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import flatten, lay_over, nest
from cxr_pipeline.common.progress import track
from cxr_pipeline.common.provenance import versions
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.task_run import TaskRun
from cxr_pipeline.framework.config import Folders, Parallel, Task, Training, Tuning
from cxr_pipeline.framework.config.network import weights_digests
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.formatting import words
from cxr_pipeline.report.pages.tuning import draw_tuning, render_tuning

logger = logging.getLogger(__name__)

TRIAL = "cxr_pipeline.framework.processes.trial"


def search_parameters(
    enhanced_images: PreparedImages,
    data_report: Mapping[str, Any],
    splits: pd.DataFrame,
    current_run: TaskRun,
    training: Training,
    tuning: Tuning,
    parallel: Parallel,
    folders: Folders,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the missing trials of the study, which need ``enhanced_images`` prepared."""
    from cxr_pipeline.experiments import search
    from cxr_pipeline.experiments.jobs import Job, run_jobs

    plan = plan_study(data_report, splits, current_run, tuning, folders)
    folder = folders.outputs.absolute() / current_run.task / "tuning" / plan.name
    payload = {"plan": asdict(plan), "run": asdict(current_run), "folder": str(folder)}

    def run_trials(n: int) -> Iterator[str | None]:
        names = [f"{plan.name}-{uuid4().hex[:12]}" for _ in range(n)]
        jobs = [Job(name, TRIAL, payload, log=f"{folder}/logs/{name}.log") for name in names]
        for outcome in track(run_jobs(jobs, width=plan.n_trials, **parallel.model_dump()), "Trials", n):
            yield outcome.error

    logger.info("The study is %s. A run with the same images, split, space and other parameters resumes it.", plan.name)
    study = search.run_search(plan, run_trials)
    best = search.best_trial(study)
    if best is None:
        task = current_run.task
        raise UserError(
            f"All {plan.n_trials} trials of {task} were pruned. Let tuning.pruner start later (n_startup_trials, "
            f"n_warmup_steps), or switch it off: --params {task}.tuning.pruner.name=none with a larger "
            f"{task}.tuning.n_trials."
        )
    return search.trial_table(study, list(plan.space)), {
        "name": plan.name,
        "monitor": training.monitor,
        "direction": plan.direction,
        "n_trials": plan.n_trials,
        "space": dict(plan.space),
        "best": best,
        "importance": search.importance(study, plan.space, seed=plan.seed),
        "data_digest": data_report["data_digest"],
        "phantom": data_report["phantom"],
    }


def plan_study(
    data_report: Mapping[str, Any], splits: pd.DataFrame, current_run: TaskRun, tuning: Tuning, folders: Folders
) -> Any:
    """Return the `StudyPlan`, named after a digest of everything that the values of its trials depend on."""
    from cxr_pipeline.experiments.search import StudyPlan

    parameters = lay_over(current_run.parameters, lay_over({"training": {"folds": tuning.folds}}, nest(tuning.space)))
    images = digests.image_digests(data_report, splits, without_split="test")
    weights = weights_digests(parameters["model"], folders.raw)
    digest = digests.result_digest(parameters, without=digests.AFTER_TRAINING, **images, weights=weights)
    file = (folders.outputs / "studies.db").absolute()
    return StudyPlan(
        name=f"{current_run.task}-{digest[:12]}",
        storage=tuning.storage.get_secret_value() if tuning.storage else f"sqlite:///{file}",
        direction="minimize" if parameters["training"]["monitor"] == "val_loss" else "maximize",
        space=tuning.space,
        n_trials=tuning.n_trials,
        folds=tuning.folds,
        pruner=tuning.pruner.model_dump(),
        seed=tuning.seed,
    )


def write_best_parameters(tuning_study: Mapping[str, Any], current_run: TaskRun) -> str:
    """Write the best parameters as a file for ``kedro run --config``."""
    best, images = tuning_study["best"], "phantom validation images" if tuning_study["phantom"] else "validation images"
    origin = (
        f"Trial {best['number']} of the study {tuning_study['name']}: {words(tuning_study['monitor'])} "
        f"{best['value']:.3f} on {images}, the best of {tuning_study['n_trials']} trials and therefore optimistic."
    )
    return current_run.config_file(nest(best["parameters"]), origin=origin)


def write_tuning_report(
    tuning_trials: pd.DataFrame,
    tuning_study: Mapping[str, Any],
    tuning_figures: Mapping[str, bytes],
    task: Task,
    current_run: TaskRun,
) -> str:
    """Write the page of the search."""
    about: dict[str, Any] = {"task": task.name, "title": task.title, "versions": versions()}
    before = flatten(current_run.parameters)
    return render_tuning(tuning_study, tuning_trials, tuning_figures, before=before, **about)


def create_pipeline() -> Pipeline:
    """Create the stage that searches for the best parameters and writes a page about the search."""
    return stage(
        "tuning",
        node(search_parameters, ["tuning_trials", "tuning_study"]),
        node(write_best_parameters, "best_parameters"),
        node(draw_tuning, "tuning_figures", trials="tuning_trials", study="tuning_study"),
        node(write_tuning_report, "tuning_report"),
    )
