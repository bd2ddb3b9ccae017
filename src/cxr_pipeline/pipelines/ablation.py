"""The ablation stage."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.common.progress import track
from cxr_pipeline.experiments import cells, digests
from cxr_pipeline.experiments.jobs import Job, run_jobs
from cxr_pipeline.experiments.task_run import MODULE, TaskRun
from cxr_pipeline.framework.config import Ablation, Evaluation, Folders, Parallel, Task, Training
from cxr_pipeline.framework.config.network import weights_digests
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.intervals import draw_cells
from cxr_pipeline.report.pages.ablation import render_ablation
from cxr_pipeline.tracking import runs

logger = logging.getLogger(__name__)


def run_cells(
    data_report: Mapping[str, Any],
    splits: pd.DataFrame,
    ablation: Ablation,
    parallel: Parallel,
    folders: Folders,
    current_run: TaskRun,
) -> list[dict[str, Any]]:
    """Run every new or changed cell; cells with equal parameters are run once. The baseline comes first."""
    parent = Path(folders.outputs).resolve() / current_run.task / "ablation"
    images = digests.image_digests(data_report, splits)
    overrides, jobs = ablation.overrides(), dict[str, Job]()
    first_names: dict[str, str] = {}
    for name, changes in overrides.items():
        parameters = lay_over(current_run.parameters, changes)
        data = {**images, "weights": weights_digests(parameters["model"], folders.raw)}
        digest = digests.result_digest(parameters, **data)
        folder = cells.cell_folder(parent, first_names.setdefault(digest, name), digest)
        cell = current_run.child(name, folder=folder, to_output="metrics", overrides=changes)
        shares = digests.shared_digests(parameters, **data)
        jobs[name] = Job(name, MODULE, asdict(cell), log=str(folder / "log.txt"), shares=shares)
    distinct = [jobs[name] for name in first_names.values()]
    missing = [job for job in distinct if not cells.is_done(Path(job.log).parent)]
    logger.info("Reusing %d of %d cells of earlier runs.", len(distinct) - len(missing), len(distinct))
    # Fine-tuning first: it caches all features that training the head alone needs, and more.
    missing.sort(key=lambda job: not digests.fine_tunes(job.payload["parameters"]))
    width = len({job.shares[0] for job in distinct})
    outcomes = track(run_jobs(missing, width=width, **parallel.model_dump()), "Cells", len(missing))
    for n_done, outcome in enumerate(outcomes, start=1):
        cells.save_outcome(Path(jobs[outcome.name].log).parent, outcome)
        level = logging.INFO if outcome.error is None else logging.WARNING
        logger.log(level, "%d of %d: %s, %s", n_done, len(missing), outcome.name, outcome.error or "done")
    finished = []
    for name, job in jobs.items():
        folder = Path(job.log).parent
        result = cells.load_outcome(folder)
        if result["run_id"] and current_run.run_id:
            # A cell of an earlier run is nested under the run that reuses it.
            runs.nest_run(result["run_id"], current_run.run_id)
        finished.append({**result, "name": name, "overrides": overrides[name], "folder": str(folder)})
    return finished


def tabulate_cells(
    ablation_cells: Sequence[Mapping[str, Any]], task: Task, training: Training, evaluation: Evaluation
) -> pd.DataFrame:
    """Tabulate the metrics of each cell on the test images and their differences from the baseline."""
    about: dict[str, Any] = {"task": task.name, "outputs": task.outputs, "exclusive": task.exclusive}
    return cells.cell_table(ablation_cells, **about, training=training.model_dump(), bootstrap=evaluation.bootstrap)


def report_cells(
    ablation_table: pd.DataFrame, data_report: Mapping[str, Any], task: Task, evaluation: Evaluation
) -> tuple[bytes, str]:
    """Draw the figure of the cells (PNG) and write their page (HTML)."""
    about: dict[str, Any] = {"task": {"name": task.name, "title": task.title}, "phantom": data_report["phantom"]}
    return draw_cells(ablation_table), render_ablation(ablation_table, **about, bootstrap=evaluation.bootstrap)


def check_cells(ablation_cells: Sequence[Mapping[str, Any]], ablation_report: str, task: Task) -> None:
    """Fail the run, after the report is written, if a cell was killed or the baseline failed."""
    baseline = ablation_cells[0]
    failed = [cell for cell in ablation_cells if cell["error"] is not None]
    reasons = " ".join(f"{cell['name']}: {cell['error']}." for cell in failed)
    n_failed = f"{len(failed)} of {len(ablation_cells)} cells of {task.name} failed"
    summary = f"{n_failed}; the results of the others are kept. {reasons}"
    if any(cell["retryable"] for cell in failed):
        raise Unavailable(f"{summary} Run the same command again to retry them.")
    if baseline in failed:
        raise UserError(
            f"{summary} All cells are compared with the baseline, {baseline['name']!r}. Correct it, or set "
            f"{task.name}.ablation.baseline to another cell."
        )


def create_pipeline() -> Pipeline:
    """Create the stage that runs the pipeline of the task with different parameters and compares the results."""
    return stage(
        "ablation",
        node(run_cells, "ablation_cells"),
        node(tabulate_cells, "ablation_table"),
        node(report_cells, ["ablation_figure", "ablation_report"]),
        node(check_cells, None),
    )
