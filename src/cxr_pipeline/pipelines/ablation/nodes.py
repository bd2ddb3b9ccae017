"""Nodes of the ablation stage."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline import registry
from cxr_pipeline.config import Ablation, Evaluation, Folders, Parallel, Task
from cxr_pipeline.experiments import cells, results
from cxr_pipeline.experiments.cell_table import cell_table
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.experiments.jobs import Job, run_jobs
from cxr_pipeline.experiments.results import CellResult
from cxr_pipeline.nesting import lay_over
from cxr_pipeline.report import ablation as page
from cxr_pipeline.training.choice import Choice

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
    films = cells.films_digests(data_report, splits)
    weights = {name: cells.weights_digests(block["model"], folders.raw) for name, block in parameters.items()}
    data = {name: {**films, "weights": weights[name]} for name in overrides}
    digests = {name: cells.digest(parameters[name], **data[name]) for name in overrides}
    checkpoints = folders.checkpoints.resolve() / f"{task.name}_ablation"
    trainings = {name: checkpoints / cells.training_digest(parameters[name], **data[name]) for name in overrides}
    first = {digest: name for name, digest in reversed(digests.items())}
    distinct = [name for name, digest in digests.items() if first[digest] == name]
    parent = Path(folders.outputs).resolve() / task.name / "ablation"
    places = {name: results.cell_folder(parent, first[digest], digest) for name, digest in digests.items()}
    missing = {name: parameters[name] for name in distinct if not results.is_done(places[name])}
    logger.info("%d of %d cells were run before and are taken over.", len(first) - len(missing), len(first))
    jobs = list(_jobs(task.name, missing, overrides, places, trainings, launch))
    for place, outcome in enumerate(run_jobs(jobs, **parallel.model_dump()), start=1):
        results.keep(outcome, places[outcome.name])
        logger.info("%d of %d: %s, %s", place, len(jobs), outcome.name, outcome.error or "done")
    found = [results.result_of(name, overrides[name], places[name]) for name in overrides]
    for result in found:
        if result.run_id and launch.parent_run and result.name not in missing:
            registry.nest_run(result.run_id, launch.parent_run)
    return [asdict(result) for result in found]


def _jobs(
    task: str,
    missing: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Path],
    trainings: Mapping[str, Path],
    launch: Launch,
) -> Iterator[Job]:
    """A job for each cell that is missing, after the one that it shares a training or features with."""
    cells.forget_others(set(trainings.values()))
    also = cells.companions(missing, trainings)
    for name, before in cells.waits(missing, trainings).items():
        cell = launch.cell(
            task=task,
            name=name,
            folder=str(places[name]),
            overrides=lay_over(overrides[name], {"training": {"companions": also[name]}}),
            wanted="metrics",
        )
        checkpoints = {"folders": {"checkpoints": str(trainings[name])}}
        cell = replace(cell, runtime_params=lay_over(cell.runtime_params, checkpoints))
        yield Job(name, cells.SESSION, asdict(cell), log=str(places[name] / "log.txt"), after=before)


def tabulate_cells(
    ablation_cells: Sequence[Mapping[str, Any]],
    task: Task,
    ablation: Ablation,
    evaluation: Evaluation,
    launch: Launch,
) -> pd.DataFrame:
    """A row for each cell: its figures on the test films, and how far they are from the baseline's."""
    found = {}
    for cell in ablation_cells:
        training = lay_over(launch.parameters["training"], cell["overrides"].get("training", {}))
        choice = Choice(training["monitor"], training["tolerance"], training["patience"])
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
    rendered = page.render_ablation(
        ablation_table,
        task={"name": task.name, "title": task.title},
        phantom=data_report["phantom"],
        bootstrap=evaluation.model_dump(),
    )
    return page.draw_cells(ablation_table), rendered
