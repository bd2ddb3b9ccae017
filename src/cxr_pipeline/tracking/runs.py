"""What a run says of itself while it goes: its epochs, and what it measured on the test images."""

import logging
from collections.abc import Mapping
from typing import Any

import mlflow

from cxr_pipeline.evaluation.evaluate import flatten_metrics
from cxr_pipeline.tracking import sending
from cxr_pipeline.tracking.server import patience, reason

_log = logging.getLogger(__name__)


def last_run_id() -> str | None:
    """The run of this process that is active, or was last; None where there was none."""
    if (run_id := sending.run_id()) is not None:
        return run_id
    run = mlflow.last_active_run()
    return run.info.run_id if run else None


def end_active_run(status: str) -> bool:
    """End the MLflow run of this process; do nothing without one. Call it from the main thread.

    It never raises: it is called while another error, or a signal, ends the process. A server that does not answer is
    waited for 10 seconds at most.

    Args:
        status: ``FINISHED``, ``FAILED`` or ``KILLED``.

    Returns:
        Whether no run is left open: False if MLflow could not be reached, so that its run still shows as running.
    """
    run = mlflow.active_run()
    if run is None:
        return True
    try:
        with patience(timeout=10, retries=0):
            mlflow.end_run(status)
    except mlflow.MlflowException as error:
        _log.warning("Could not end the MLflow run %s as %s: %s", run.info.run_id, status, reason(error))
        return False
    return True


def nest_run(run_id: str, parent: str) -> None:
    """Lay a run of earlier below the run that takes its results over; one that is gone is only warned about."""
    try:
        mlflow.MlflowClient().set_tag(run_id, "mlflow.parentRunId", parent)
    except mlflow.MlflowException as error:
        _log.warning("MLflow could not lay the run %s below %s: %s", run_id, parent, reason(error))


def end_killed(run_id: str) -> None:
    """End a run whose process was killed, and those nested below it; what has ended, or is gone, is left as it is."""
    client = mlflow.MlflowClient()
    try:
        killed = client.get_run(run_id)
        nested = client.search_runs([killed.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
        for run in (killed, *nested):
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")
    except mlflow.MlflowException as error:
        _log.warning("MLflow could not end the run %s, whose process was killed: %s", run_id, reason(error))


def log_epoch(values: Mapping[str, float | int | str]) -> None:
    """Log a row of ``history`` to the active run as ``epoch/<name>``, at the step ``epoch``.

    Without an active run nothing is logged. A server that stops answering does not end the training: `sending`
    keeps what it should have got. One that refuses the values is only warned about.
    """
    numbers = {f"epoch/{name}": value for name, value in values.items() if name != "epoch"}
    _log_metrics(numbers, step=int(values["epoch"]))


def log_summary(metrics: Mapping[str, Any], *, data_digest: str) -> None:
    """Log the content of ``metrics.json`` to the active run, so that it can be found and compared.

    Its numbers become the metrics ``test/auc``, ``test/auc_low`` and so on; what says on which images they were
    measured becomes the tags ``task``, ``images`` (``real`` or ``phantom``), ``test_digest`` and ``data_digest``.
    Without an active run, or a server, it is as with ``log_epoch``.

    Args:
        metrics: content of ``metrics.json``.
        data_digest: digest of all images and labels of the run.
    """
    tags = {
        "task": metrics["task"],
        "images": "phantom" if metrics["phantom"] else "real",
        "test_digest": metrics["images_digest"],
        "data_digest": data_digest,
    }
    _log_metrics(flatten_metrics(metrics), step=0, tags=tags)


def _log_metrics(values: Mapping[str, Any], *, step: int, tags: Mapping[str, str] | None = None) -> None:
    try:
        sending.log_metrics(values, step=step)
        sending.set_tags(tags or {})
    except mlflow.MlflowException as error:
        _log.warning("MLflow did not take the metrics of step %d, the run goes on: %s", step, reason(error))
