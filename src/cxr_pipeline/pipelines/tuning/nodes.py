"""Nodes of the tuning stage."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import flatten, lay_over, nest
from cxr_pipeline.common.provenance import versions
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.experiments.run_config import run_file
from cxr_pipeline.experiments.shared_inputs import keep_inputs
from cxr_pipeline.framework.config import Folders, Parallel, Task, Training, Tuning
from cxr_pipeline.report.figures.tuning import draw_tuning, monitor_in_words
from cxr_pipeline.report.pages.tuning import TuningContent, render_tuning
from cxr_pipeline.training.epoch_selection import EpochSelector

if TYPE_CHECKING:
    from cxr_pipeline.experiments.search import StudyPlan

logger = logging.getLogger(__name__)

TRIAL = "cxr_pipeline.framework.processes.trial"


def search_parameters(
    enhanced_images: PreparedImages,
    data_report: Mapping[str, Any],
    splits: pd.DataFrame,
    launch: Launch,
    task: Task,
    training: Training,
    tuning: Tuning,
    parallel: Parallel,
    folders: Folders,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the trials that the study misses; that images are prepared is all that is wanted of the first input.

    Returns:
        a row for each trial, and what is known of the study.

    Raises:
        UserError: trials fail one after the other, or none comes to its end.
    """
    from cxr_pipeline.experiments import search, trials
    from cxr_pipeline.experiments.jobs import Job, run_jobs

    plan = plan_study(data_report, splits, launch, task, training, tuning, folders)
    folder = str(folders.outputs.absolute() / task.name / "tuning" / plan.name)
    inputs = keep_inputs(folders.data, Path(folder, "inputs"), task.name)
    shared = {"task": task.name, "folder": folder, "inputs": inputs, "wanted": "history"}
    cell = launch.cell(name="", checkpoints=None, overrides={}, **shared)
    choice = EpochSelector(training.monitor, training.tolerance, training.patience)
    payload = {"plan": asdict(plan), "cell": asdict(cell), "choice": asdict(choice)}

    def run_trials(n: int) -> Iterator[str | None]:
        # Other runs may work on the same study with the same Dask scheduler, which knows jobs by their names.
        names = [f"{plan.name}-{uuid4().hex[:12]}" for _ in range(n)]
        jobs = [Job(name, TRIAL, payload, log=f"{folder}/logs/{name}.log") for name in names]
        for outcome in run_jobs(jobs, width=plan.n_trials, **parallel.model_dump()):
            yield outcome.error

    logger.info("Study %s goes on as long as images, split, space and other parameters stay the same.", plan.name)
    study = search.run_search(plan, run_trials)
    best = trials.best_trial(study)
    if best is None:
        raise UserError(
            f"None of the {plan.n_trials} trials of {task.name} came to its end: all were pruned. Let tuning.pruner "
            "begin later (n_startup_trials, n_warmup_steps), or switch it off: --params "
            f"{task.name}.tuning.pruner.name=none with a larger {task.name}.tuning.n_trials."
        )
    return trials.trial_table(study, list(plan.space)), {
        "name": plan.name,
        "monitor": training.monitor,
        "direction": plan.direction,
        "n_trials": plan.n_trials,
        "space": dict(plan.space),
        "best": best,
        "importance": trials.importance(study, plan.space, seed=plan.seed),
        "data_digest": data_report["data_digest"],
        "phantom": data_report["phantom"],
    }


def plan_study(
    data_report: Mapping[str, Any],
    splits: pd.DataFrame,
    launch: Launch,
    task: Task,
    training: Training,
    tuning: Tuning,
    folders: Folders,
) -> "StudyPlan":
    """Name the study after all that its values depend on, so that only trials that compare are put together."""
    from cxr_pipeline.experiments.search import StudyPlan

    parameters = lay_over(launch.parameters, nest(tuning.space))
    used = digests.images_digests(data_report, splits, unseen="test")
    weights = digests.weights_digests(parameters["model"], folders.raw)
    digest = digests.digest(parameters, idle=digests.AFTER_TRAINING, **used, weights=weights)
    file = (folders.outputs / "studies.db").absolute()
    return StudyPlan(
        name=f"{task.name}-{digest[:12]}",
        storage=tuning.storage.get_secret_value() if tuning.storage else f"sqlite:///{file}",
        direction="minimize" if training.monitor == "val_loss" else "maximize",
        space=tuning.space,
        n_trials=tuning.n_trials,
        pruner=tuning.pruner.model_dump(),
        seed=tuning.seed,
    )


def write_best_parameters(study: Mapping[str, Any], task: Task, launch: Launch) -> str:
    """Write the best parameters as the file that ``kedro run --config`` takes."""
    best = study["best"]
    images = "phantom validation images" if study["phantom"] else "validation images"
    return run_file(
        task=task.name,
        env=launch.env,
        conf_source=launch.conf_source if Path(launch.conf_source) != Path(launch.project, "conf") else None,
        runtime_params=launch.runtime_params,
        overrides=nest(best["parameters"]),
        origin=f"Trial {best['number']} of the study {study['name']}: {monitor_in_words(study['monitor'])} "
        f"{best['value']:.3f} on {images}, the best of {study['n_trials']} trials, which flatters.",
    )


def draw_search(trials: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the study, as PNG by name."""
    minimize = study["direction"] == "minimize"
    return draw_tuning(trials, study["space"], study["importance"], monitor=study["monitor"], minimize=minimize)


def write_tuning_report(
    trials: pd.DataFrame, study: Mapping[str, Any], figures: Mapping[str, bytes], task: Task, launch: Launch
) -> str:
    """Write the page that the search leaves for its reader."""
    content = TuningContent(
        task=task.name,
        title=task.title,
        phantom=study["phantom"],
        study=study,
        trials=trials,
        before=flatten(launch.parameters),
        figures=figures,
        versions=versions(),
    )
    return render_tuning(content)
