"""One cell in a process of its own: ``python -m cxr_pipeline.framework.processes.cell``, the cell on standard input."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import results
from cxr_pipeline.experiments.cells import Cell
from cxr_pipeline.experiments.jobs import receive
from cxr_pipeline.experiments.shared_inputs import INPUTS
from cxr_pipeline.framework.exit import clean_exit


def run_cell(cell: Cell) -> None:
    """Run a task's pipeline up to the output that is wanted, in this process and an MLflow run of its own.

    Args:
        cell: what is run; its outputs lie in its folder, as below ``data/``.

    Raises:
        UserError: a parameter or the data cannot be used, or the project is not on this machine.
    """
    _go_to(cell)
    bootstrap_project(cell.project)
    session = KedroSession.create(
        cell.project, env=cell.env, conf_source=cell.conf_source, runtime_params=_runtime_params(cell)
    )
    with session:
        try:
            session.run(
                pipeline_names=[cell.task],
                from_inputs=[f"{cell.task}.{name}" for name in INPUTS],
                to_outputs=[f"{cell.task}.{cell.wanted}"],
            )
        finally:
            results.note_run(Path(cell.folder), tracking.last_run_id())


def _go_to(cell: Cell) -> None:
    """Be where the run was called, and track where it tracks: a worker may have been started anywhere."""
    try:
        os.chdir(cell.place)
    except OSError as error:
        raise UserError(
            f"{cell.place}, the folder that the run was called in, cannot be entered on this machine "
            f"({error.strerror}). Every Dask worker must see the same folders as the run."
        ) from error
    os.environ["MLFLOW_TRACKING_URI"] = cell.tracking_uri


def _runtime_params(cell: Cell) -> dict[str, Any]:
    identity = {name: asdict(cell)[name] for name in ("name", "folder", "inputs", "parent_run")}
    folders = {"folders": {"checkpoints": cell.checkpoints}} if cell.checkpoints else {}
    return lay_over(cell.runtime_params, {cell.task: cell.overrides, "cell": identity, **folders})


if __name__ == "__main__":
    with clean_exit(separator="; "):  # the parent reports the last line
        run_cell(Cell(**receive()))
