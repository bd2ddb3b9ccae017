"""What MLflow is told of a run, as values that can be written down, and how each is told.

An operation that is performed twice leaves what it leaves when performed once: whoever was killed before it could
note that MLflow had taken it performs it again.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT

import cxr_pipeline
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.tracking.server import patience
from cxr_pipeline.tracking.unsent import Operation

# Tag of a version that was sent later, from another commit than that of its training.
PACKAGED_COMMIT = "packaged_commit"
# The most that MLflow takes in one call, and the longest value of a parameter.
_PER_CALL = 100
_LONGEST_PARAM = 6000
# Seconds for an upload to be taken, which a server may pass on to a store of its own.
_UPLOAD = 120


def perform(operation: Operation, file: Path | None = None) -> dict[str, Any] | None:
    """Tell MLflow.

    Args:
        operation: its ``kind``, ``run_id`` and what belongs to the kind.
        file: of an artifact, or the folder of a classifier.

    Returns:
        the registered version, where the operation registers one.

    Raises:
        MlflowException, HTTPError: the server is away or refuses it.
    """
    return _KINDS[operation["kind"]](operation, file)


def _params(operation: Operation, file: Path | None) -> None:
    params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in operation["params"].items()]
    for some in _portions(params):
        mlflow.MlflowClient().log_batch(operation["run_id"], params=some)


def _metrics(operation: Operation, file: Path | None) -> None:
    time, step = operation["time"], operation["step"]
    metrics = [Metric(name, value, time, step) for name, value in operation["metrics"].items()]
    for some in _portions(metrics):
        mlflow.MlflowClient().log_batch(operation["run_id"], metrics=some)


def _tags(operation: Operation, file: Path | None) -> None:
    for some in _portions([RunTag(name, str(value)) for name, value in operation["tags"].items()]):
        mlflow.MlflowClient().log_batch(operation["run_id"], tags=some)


def _artifact(operation: Operation, file: Path | None) -> None:
    with _uploading():
        mlflow.MlflowClient().log_artifact(operation["run_id"], str(file), operation["folder"])


def _end(operation: Operation, file: Path | None) -> None:
    run = mlflow.active_run()
    if run is not None and run.info.run_id == operation["run_id"]:
        mlflow.end_run(operation["status"])
    else:
        mlflow.MlflowClient().set_terminated(operation["run_id"], operation["status"], operation["time"])


def _version(operation: Operation, file: Path | None) -> dict[str, Any]:
    name, client = operation["name"], mlflow.MlflowClient()
    with _uploading():
        number = _registered(client, operation) or _register(operation, file)
    client.update_model_version(name, str(number), operation["description"])
    uri, digest = f"models:/{name}/{number}", operation["tags"]["digest"]
    return {"name": name, "version": number, "uri": uri, "run_id": operation["run_id"], "digest": digest}


def _uploading() -> AbstractContextManager[None]:
    return patience(timeout=max(_UPLOAD, MLFLOW_HTTP_REQUEST_TIMEOUT.get()), retries=0)


def _registered(client: mlflow.MlflowClient, operation: Operation) -> int | None:
    """The version that a run has registered already, with the same weights, recipe and rule."""
    for version in client.search_model_versions(f"run_id='{operation['run_id']}'"):
        if version.name == operation["name"] and version.tags.get("digest") == operation["tags"]["digest"]:
            return int(version.version)
    return None


def _register(operation: Operation, file: Path | None) -> int:
    import pandas as pd

    from cxr_pipeline.deployment import serving

    with _import_path_kept(), _active(operation["run_id"]):
        logged = mlflow.pyfunc.log_model(
            name=operation["name"],
            registered_model_name=operation["name"],
            python_model=serving.__file__,
            artifacts={"classifier": str(file)},
            code_paths=[str(Path(cxr_pipeline.__file__).parent)],
            pip_requirements=serving.requirements(),
            signature=serving.signature(operation["outputs"]),
            input_example=pd.DataFrame(operation["example"]),
            model_config=operation["limits"],
            tags=_with_sender(operation["tags"]),
        )
    return int(logged.registered_model_version)


def _with_sender(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a version; where it is packaged with other code than it was trained with, they say with which."""
    commit = git_commit()
    return {**tags} if tags.get("git_commit", commit) == commit else {**tags, PACKAGED_COMMIT: commit}


@contextmanager
def _active(run_id: str) -> Iterator[None]:
    """Make a run the active one, where it is not."""
    run = mlflow.active_run()
    if run is not None and run.info.run_id == run_id:
        yield
        return
    mlflow.set_experiment(experiment_id=mlflow.get_run(run_id).info.experiment_id)
    with mlflow.start_run(run_id=run_id, nested=True):
        yield


@contextmanager
def _import_path_kept() -> Iterator[None]:
    """Take back what MLflow adds to the import path when it tries the model that it logs."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _portions(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _PER_CALL):
        yield values[start : start + _PER_CALL]


_KINDS: dict[str, Callable[[Operation, Path | None], dict[str, Any] | None]] = {
    "params": _params,
    "metrics": _metrics,
    "tags": _tags,
    "artifact": _artifact,
    "version": _version,
    "end": _end,
}
