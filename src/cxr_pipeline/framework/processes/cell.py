"""Run a `TaskRun` from standard input: ``python -m cxr_pipeline.framework.processes.cell``."""

import os
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.cells import save_mlflow_run
from cxr_pipeline.experiments.jobs import receive_payload
from cxr_pipeline.experiments.task_run import SHARED_INPUTS, TaskRun
from cxr_pipeline.framework.exit import clean_exit
from cxr_pipeline.tracking import runs


def execute(run: TaskRun) -> None:
    """Run a task's pipeline in this process, with its own MLflow run; `run` is a child run."""
    # A Dask worker may have another working directory and another tracking server.
    try:
        os.chdir(run.cwd)
    except OSError as error:
        raise UserError(
            f"The working directory of the run, {run.cwd}, cannot be entered on this machine ({error.strerror}). Every "
            "Dask worker must see the same folders as the run."
        ) from error
    os.environ["MLFLOW_TRACKING_URI"] = run.tracking_uri
    bootstrap_project(run.project)
    session = KedroSession.create(
        run.project, env=run.env, conf_source=run.conf_source, runtime_params=dict(run.runtime_params)
    )
    with session:
        try:
            session.run(
                pipeline_names=[run.task],
                from_inputs=[f"{run.task}.{name}" for name in SHARED_INPUTS],
                to_outputs=[f"{run.task}.{run.to_output}"],
            )
        finally:
            save_mlflow_run(Path(run.runtime_params["cell"]["folder"]), runs.last_run_id())


if __name__ == "__main__":
    with clean_exit(separator="; "):  # the parent reports the last line
        execute(TaskRun(**receive_payload()))
