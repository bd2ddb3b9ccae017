"""The MLflow run of this process: its start and end, and what is logged to it.

Every function that logs does nothing without a run. If MLflow does not answer, it raises an error: the run ends, and
the same command resumes from the files on disk.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from cxr_pipeline.evaluation.evaluate import flatten_metrics, numbers_of
from cxr_pipeline.tracking.experiments import describe_experiment
from cxr_pipeline.tracking.server import exclusive, impatient, is_server, reason, run_url

_log = logging.getLogger(__name__)

# Maximum length of the name of a run in MLflow's databases.
_LONGEST_NAME = 250
# The tags of a run that name its data folder and the run above it.
_FOLDER, _PARENT = "data_folder", "mlflow.parentRunId"
# The tags of a run that name its pipeline, or the cell of an experiment.
PIPELINE, CELL = "pipeline", "cell"
_SHORT_DIGEST = 8  # as MLflow's own digests of datasets


@dataclass
class _Run:
    """A run of this process."""

    run_id: str
    is_active: bool = True


# In MLflow, the active run belongs to the thread that started it, but Kedro's ThreadRunner runs nodes in others.
_last: _Run | None = None


def start_run(
    experiment: str, *, name: str, folder: str, artifacts: str, parent: str | None, tags: Mapping[str, Any]
) -> str:
    """Start the MLflow run of this process, nested below the run ``parent`` if given, and return its id.

    The experiment is created if it is missing, and restored if it was deleted. ``artifacts`` is the folder of a new
    experiment in a database; a server sets its own. ``folder`` identifies the data folder, of which this process holds
    the lock: earlier runs with this folder that have not ended are ended as ``KILLED``.
    """
    global _last
    uri, client = mlflow.get_tracking_uri(), mlflow.MlflowClient()
    with exclusive(uri):
        found = client.get_experiment_by_name(experiment)
        if found is None and not is_server(uri):
            client.create_experiment(experiment, artifact_location=artifacts)
        elif found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        experiment_id = mlflow.set_experiment(experiment).experiment_id
        describe_experiment(client, experiment_id)
    _end_killed_runs(client, experiment_id, f"tags.{_FOLDER} = '{folder}'")
    # Set when the run is created, so that it is found even if this process is killed right afterwards.
    first_tags = {_FOLDER: folder} | ({_PARENT: parent} if parent else {})
    run = mlflow.start_run(experiment_id=experiment_id, run_name=name[:_LONGEST_NAME], tags=first_tags)
    _last = _Run(run.info.run_id)
    set_tags(tags)
    return _last.run_id


def active_run_id() -> str | None:
    """Return the id of the run that this process logs to; None without one."""
    run = mlflow.active_run()
    if run is not None:
        return str(run.info.run_id)
    return _last.run_id if _last and _last.is_active else None


def last_run_id() -> str | None:
    """Return the id of the run that this process started last, active or not; None if there was none."""
    return _last.run_id if _last else None


def end_active_run(status: str) -> None:
    """End the MLflow run of this process as ``FINISHED``, ``FAILED`` or ``KILLED``. Call it from the main thread.

    It never raises an error, because it is called while another error, or a signal, ends the process.
    """
    if _last is None or not _last.is_active:
        return
    _last.is_active = False
    try:
        with impatient():
            mlflow.end_run(status)
    except mlflow.MlflowException as error:
        _log.warning("Could not end the MLflow run %s as %s: %s", _last.run_id, status, reason(error))


def _end_killed_runs(client: mlflow.MlflowClient, experiment_id: str, condition: str) -> None:
    """End runs of processes that were killed, and the runs nested below them."""
    for run in client.search_runs([experiment_id], f"{condition} and attributes.status = 'RUNNING'"):
        # The nested runs first: if this process is killed in between, the next one finds them again.
        _end_killed_runs(client, experiment_id, f"tags.`{_PARENT}` = '{run.info.run_id}'")
        try:
            client.set_terminated(run.info.run_id, "KILLED")
        except mlflow.MlflowException as error:
            _log.warning("Could not end the MLflow run %s of a killed process: %s", run.info.run_id, reason(error))


def find_run(run_id: str | None) -> Any:
    """Return a run by its id; None if it no longer exists."""
    if not run_id:
        return None
    try:
        return mlflow.MlflowClient().get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def url_of(run_id: str) -> str | None:
    """Return the address of a run's page; None if MLflow is not a server or the run no longer exists."""
    run = find_run(run_id)
    return None if run is None else run_url(mlflow.get_tracking_uri(), run.info.experiment_id, run_id)


def nest_run(run_id: str, parent: str) -> None:
    """Nest an earlier run below the run that reuses its results; a run that no longer exists only causes a warning."""
    try:
        mlflow.MlflowClient().set_tag(run_id, _PARENT, parent)
    except mlflow.MlflowException as error:
        _log.warning("Could not nest the MLflow run %s below %s: %s", run_id, parent, reason(error))


def log_epoch(values: Mapping[str, float | int | str], *, member: int | None = None) -> None:
    """Log a row of ``history`` as the metrics ``training/<name>``, at the step ``epoch``.

    Those of one member of an ensemble are ``training_<member>/<name>``.
    """
    group = "training" if member is None else f"training_{member}"
    numbers = {f"{group}/{name}": value for name, value in values.items() if name != "epoch"}
    _log_metrics(numbers, step=int(values["epoch"]))


def log_images(context: Literal["training", "test"], *, digest: str, n_images: int, counts: Mapping[str, Any]) -> None:
    """Log the training or test images as an input of the run: their digest and counts, without any name or path."""
    if run_id := active_run_id():
        dataset = Dataset(
            _dataset(context),
            digest[:_SHORT_DIGEST],
            "code",
            "{}",
            profile=json.dumps({"num_rows": n_images, **counts}),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        mlflow.MlflowClient().log_inputs(run_id, inputs)


def _dataset(context: str) -> str:
    return f"{context} images"


def log_summary(metrics: Mapping[str, Any], *, data_digest: str) -> None:
    """Log ``metrics.json``: the test images, metrics such as ``test/auc``, and tags by which runs are compared."""
    n_positive = {name: counts["n_positive"] for name, counts in metrics.get("support", {}).items()}
    counts = {"patients": metrics.get("n_patients"), **n_positive}
    log_images("test", digest=metrics["images_digest"], n_images=metrics["n_images"], counts=counts)
    _log_metrics(flatten_metrics(metrics), step=0)
    set_tags(
        {
            "task": metrics["task"],
            "images": "phantom" if metrics["phantom"] else "real",
            "test_digest": metrics["images_digest"],
            "data_digest": data_digest,
        }
    )


def log_model_metrics(metrics: Mapping[str, Any], model_id: str) -> None:
    """Log the metrics ``test/...`` for a logged model, so that the UI lists them with the model and its test images."""
    values = {name: value for name, value in flatten_metrics(metrics).items() if name.startswith("test/")}
    of_dataset = {"dataset_name": _dataset("test"), "dataset_digest": metrics["images_digest"][:_SHORT_DIGEST]}
    _log_metrics(values, step=0, model_id=model_id, **of_dataset)


def _log_metrics(values: Mapping[str, Any], *, step: int, **about: str) -> None:
    now = time.time_ns() // 1_000_000
    numbers = numbers_of(values).items()
    _log_batch(metrics=[Metric(name, value, now, step, run_id=active_run_id(), **about) for name, value in numbers])


def log_params(params: Mapping[str, Any]) -> None:
    """Log parameters to the run of this process."""
    _log_batch(params=[Param(name, str(value)) for name, value in params.items()])


def set_tags(tags: Mapping[str, Any]) -> None:
    """Set tags of the run of this process."""
    _log_batch(tags=[RunTag(name, str(value)) for name, value in tags.items()])


def log_artifact(path: Path, folder: str | None = None) -> None:
    """Log a file, or a folder with its content, to a folder of the run's artifacts."""
    if run_id := active_run_id():
        mlflow.MlflowClient().log_artifact(run_id, str(path), folder)


def _log_batch(**entities: Any) -> None:
    if run_id := active_run_id():
        mlflow.MlflowClient().log_batch(run_id, **entities)
