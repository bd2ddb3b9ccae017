"""Nodes of the ablation stage."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import cells, dependencies, digests, results
from cxr_pipeline.experiments.cell_table import cell_table
from cxr_pipeline.experiments.cells import Cell, Launch
from cxr_pipeline.experiments.jobs import Job, n_at_a_time, run_jobs
from cxr_pipeline.experiments.results import CellResult
from cxr_pipeline.experiments.shared_inputs import keep_inputs
from cxr_pipeline.framework.config import Ablation, Evaluation, Folders, Parallel, Task
from cxr_pipeline.report.figures.intervals import draw_cells
from cxr_pipeline.report.pages.ablation import render_ablation
from cxr_pipeline.training.epoch_selection import EpochSelector

logger = logging.getLogger(__name__)


def run_cells(
    data_report: Mapping[str, Any],
    splits: pd.DataFrame,
    task: Task,
    ablation: Ablation,
    parallel: Parallel,
    folders: Folders,
    launch: Launch,
) -> list[dict[str, Any]]:
    """Run every cell that is missing or changed; equal cells are run once.

    Returns:
        what became of each cell, the baseline first.
    """
    overrides = ablation.overrides()
    parameters = {name: lay_over(launch.parameters, changes) for name, changes in overrides.items()}
    parent = Path(folders.outputs).resolve() / task.name / "ablation"
    checkpoints = folders.checkpoints.resolve() / f"{task.name}_ablation"
    images = digests.images_digests(data_report, splits)
    names: dict[str, str] = {}
    places, trainings = dict[str, Path](), dict[str, Path]()
    for name, block in parameters.items():
        decisive = {**images, "weights": digests.weights_digests(block["model"], folders.raw)}
        digest = digests.digest(block, **decisive)
        places[name] = results.cell_folder(parent, names.setdefault(digest, name), digest)
        trainings[name] = checkpoints / digests.training_digest(block, **decisive)
    distinct = {name: parameters[name] for name in names.values()}
    missing = {name: block for name, block in distinct.items() if not results.is_done(places[name])}
    logger.info("%d of %d cells were run before and are taken over.", len(distinct) - len(missing), len(distinct))
    dependencies.forget_others(set(trainings.values()))
    inputs = keep_inputs(folders.data, parent / "inputs", task.name)
    make = partial(launch.cell, task=task.name, inputs=inputs, wanted="metrics")
    jobs = list(_jobs(missing, overrides, places, trainings, make))
    width = n_at_a_time(dependencies.waits(distinct, trainings))
    for place, outcome in enumerate(run_jobs(jobs, width=width, **parallel.model_dump()), start=1):
        results.keep(outcome, places[outcome.name])
        level = logging.INFO if outcome.error is None else logging.WARNING
        logger.log(level, "%d of %d: %s, %s", place, len(jobs), outcome.name, outcome.error or "done")
    found = [results.result_of(name, overrides[name], places[name]) for name in overrides]
    for result in found:
        if result.run_id and launch.parent_run and result.name not in missing:
            tracking.nest_run(result.run_id, launch.parent_run)
    return [asdict(result) for result in found]


def _jobs(
    missing: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Path],
    trainings: Mapping[str, Path],
    make: Callable[..., Cell],
) -> Iterator[Job]:
    """A job for each cell that is missing, after the one that it shares a training or features with."""
    for name, before in dependencies.waits(missing, trainings).items():
        cell = make(
            name=name,
            folder=str(places[name]),
            checkpoints=str(trainings[name]),
            overrides=overrides[name],
        )
        yield Job(name, cells.SESSION, asdict(cell), log=str(places[name] / "log.txt"), after=before)


def tabulate_cells(
    ablation_cells: Sequence[Mapping[str, Any]],
    task: Task,
    ablation: Ablation,
    evaluation: Evaluation,
    launch: Launch,
) -> pd.DataFrame:
    """A row for each cell: its figures on the test images, and how far they are from the baseline's."""
    found = {}
    for cell in ablation_cells:
        training = lay_over(launch.parameters["training"], cell["overrides"].get("training", {}))
        choice = EpochSelector(training["monitor"], training["tolerance"], training["patience"])
        found[cell["name"]] = results.read_findings(CellResult(**cell), task=task.name, choice=choice)
    return cell_table(
        found,
        baseline=ablation.baseline,
        outputs=task.outputs,
        exclusive=task.exclusive,
        bootstrap=evaluation.model_dump(),
    )


def report_cells(
    ablation_table: pd.DataFrame, data_report: Mapping[str, Any], task: Task, evaluation: Evaluation
) -> tuple[bytes, str]:
    """Draw and write down what the cells came to.

    Returns:
        the picture, PNG, and the page, HTML.
    """
    rendered = render_ablation(
        ablation_table,
        task={"name": task.name, "title": task.title},
        phantom=data_report["phantom"],
        bootstrap=evaluation.model_dump(),
    )
    return draw_cells(ablation_table), rendered


def judge_cells(ablation_cells: Sequence[Mapping[str, Any]], ablation_report: str, task: Task) -> None:
    """Stop the run if cells failed that the table cannot do without; it is written by then.

    Raises:
        Unavailable: some were killed, or something was away: the same command runs them again.
        UserError: the baseline failed.
    """
    baseline = ablation_cells[0]
    failed = [cell for cell in ablation_cells if cell["error"] is not None]
    passing = [cell for cell in failed if cell["may_pass"]]
    reasons = " ".join(f"{cell['name']}: {cell['error']}." for cell in failed)
    counted = f"{len(failed)} of {len(ablation_cells)} cells of {task.name} failed"
    said = f"{counted}; what the others found is kept. {reasons}"
    if passing:
        raise Unavailable(f"{said} The same command runs these again.")
    if baseline in failed:
        raise UserError(
            f"{said} Expected the baseline, {baseline['name']!r}, to run, since the others are compared with it. Mend "
            f"it, or name another cell as {task.name}.ablation.baseline."
        )
