"""What goes to MLflow and comes back: metrics of a run, versions of a model."""

import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import mlflow
import numpy as np

import cxr_pipeline
from cxr_pipeline.classifier import FilmClassifier
from cxr_pipeline.decision_rule import DecisionRule
from cxr_pipeline.errors import UserError
from cxr_pipeline.evaluation import flatten_metrics, numbers_of
from cxr_pipeline.images.recipe import Recipe

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)


def model_name(task: str, *, phantom: bool) -> str:
    """Name the registered model of a task; what was trained on phantoms has its own.

    Example:
        >>> model_name("effusion", phantom=True)
        'cxr-effusion-demo'
    """
    return f"cxr-{task}-demo" if phantom else f"cxr-{task}"


def experiment_name(task: str, *, phantom: bool) -> str:
    """Name the experiment that a task's runs belong to; it is called like the registered model."""
    return model_name(task, phantom=phantom)


def log_epoch(values: Mapping[str, float | int | str]) -> None:
    """Log a row of ``history`` to the active run as ``epoch/<name>``, at the step ``epoch``.

    Without an active run nothing is logged. A server that stops answering costs the curves, not the
    training: it is only warned about.
    """
    numbers = {f"epoch/{name}": value for name, value in values.items() if name != "epoch"}
    _log_metrics(numbers, step=int(values["epoch"]))


def log_summary(metrics: Mapping[str, Any]) -> None:
    """Log the content of ``metrics.json`` to the active run, as ``test/auc``, ``test/auc_low`` and so on."""
    _log_metrics(flatten_metrics(metrics), step=0)


def _log_metrics(values: Mapping[str, Any], *, step: int) -> None:
    if mlflow.active_run() is None:
        return
    try:
        mlflow.log_metrics(numbers_of(values), step=step)
    except mlflow.MlflowException as error:
        _log.warning("MLflow did not take the metrics of step %d, the run goes on: %s", step, error)


def check_server(uri: str) -> None:
    """Check that runs and models can be kept at ``uri``, within seconds rather than MLflow's minutes.

    Args:
        uri: ``sqlite:///<path>`` or the address of an MLflow server; other databases are not tried.

    Raises:
        UserError: the server does not answer, the file cannot be written or is no database, or ``uri`` is
            a folder, which MLflow 3 no longer takes.
    """
    parts = urlparse(uri)
    if parts.scheme in ("http", "https"):
        problem = _problem_of_server(uri)
    elif parts.scheme == "sqlite":
        problem = _problem_of_file(Path(parts.path[1:]))
    elif parts.scheme in ("", "file"):
        problem = "it is a folder, which MLflow 3 no longer takes"
    else:
        problem = None
    if problem is not None:
        raise UserError(
            f"Runs and models cannot be kept in MLflow at {uri} (tracking_uri in conf/base/globals.yml, or the "
            f"environment variable MLFLOW_TRACKING_URI): {problem}. Correct the setting, or go on with a local file: "
            "MLFLOW_TRACKING_URI=sqlite:///mlflow.db before the same command."
        )


def _problem_of_server(uri: str) -> str | None:
    before = dict(os.environ)
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", **before, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    os.environ.update(patience)
    try:
        mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except mlflow.MlflowException as error:
        return f"no MLflow server answers there ({_root(error)})"
    finally:
        for name in patience.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    return None


def _problem_of_file(path: Path) -> str | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        if path.exists():
            with path.open("r+b"), closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA schema_version")
    except OSError as error:
        return f"the file cannot be written ({error.strerror})"
    except sqlite3.DatabaseError as error:
        return f"the file is no SQLite database that can be used ({error})"
    return None


def _root(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def register_version(
    *,
    task: str,
    phantom: bool,
    model: "keras.Model",
    recipe: Recipe,
    decision_rule: DecisionRule,
    metrics: Mapping[str, Any],
    data_digest: str,
    example: np.ndarray[Any, np.dtype[np.uint8]],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Log a model to the active run and register it as the newest version of its task.

    Args:
        task: name of the task.
        phantom: whether any film that it was trained on is drawn.
        model: the network, as ``FilmClassifier`` holds it.
        recipe: how a film becomes the network's input.
        decision_rule: how its score becomes a probability and a decision.
        metrics: content of ``metrics.json``; its AUC goes into the version's description.
        data_digest: digest of the films and labels that it was trained on.
        example: uint8 [height, width], a film to show what the model takes.
        tags: more tags of the version, such as the git commit.

    Returns:
        ``name``, ``version`` (a number), ``uri``, ``run_id`` and ``digest`` (of weights, recipe and rule).
    """
    from cxr_pipeline import serving

    provenance = {"task": task, "films": "phantom" if phantom else "real", "data_digest": data_digest}
    classifier = FilmClassifier(model, recipe, decision_rule, provenance)
    name = model_name(task, phantom=phantom)
    with tempfile.TemporaryDirectory() as folder, _import_path_kept():
        classifier.save(Path(folder, "classifier"))
        logged = mlflow.pyfunc.log_model(
            name=name,
            registered_model_name=name,
            python_model=serving.__file__,
            artifacts={"classifier": str(Path(folder, "classifier"))},
            code_paths=[str(Path(cxr_pipeline.__file__).parent)],
            pip_requirements=serving.requirements(),
            signature=serving.signature(decision_rule.outputs),
            input_example=serving.example_request(example),
            tags={**provenance, "digest": classifier.digest, **tags},
        )
    number = int(logged.registered_model_version)
    mlflow.MlflowClient().update_model_version(name, str(number), _describe(metrics, phantom=phantom))
    uri = f"models:/{name}/{number}"
    return {"name": name, "version": number, "uri": uri, "run_id": logged.run_id, "digest": classifier.digest}


@contextmanager
def _import_path_kept() -> Iterator[None]:
    """Take back what MLflow adds to the import path when it tries the model that it logs."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _describe(metrics: Mapping[str, Any], *, phantom: bool) -> str:
    auc = metrics["metrics"]["auc"]
    measured = "undefined" if auc["value"] is None else f"{auc['value']:.3f}"
    films = "phantom films; it says nothing about patients" if phantom else "films"
    return f"AUC {measured} on {metrics['n_images']} {metrics['split']} {films}. For research; not a medical device."


def newest_version(name: str) -> str:
    """Find the newest version of a registered model.

    Returns:
        its URI, such as ``models:/cxr-effusion/3``.

    Raises:
        UserError: there is none.
    """
    versions = mlflow.MlflowClient().search_model_versions(f"name='{name}'")
    numbers = [int(found.version) for found in versions if found.status == "READY"]
    if not numbers:
        task, demo = name.removeprefix("cxr-").removesuffix("-demo"), name.endswith("-demo")
        raise UserError(
            f"No version of {name} is registered in MLflow at {mlflow.get_tracking_uri()}. Train one first: "
            f"kedro run{' --env demo' if demo else ''} --pipeline={task}; or name another model: "
            f"--params {task}.scoring.model=models:/NAME/VERSION. What was trained in the demo environment is "
            "used there alone, with --env demo."
        )
    return f"models:/{name}/{max(numbers)}"


@dataclass(frozen=True)
class ModelVersion:
    """Which model a URI means; name and number are null for one that was not registered."""

    uri: str
    name: str | None
    version: int | None
    run_id: str | None


def resolve_version(uri: str) -> ModelVersion:
    """Say which model a URI means today, so that it can be found again when an alias has moved on.

    Args:
        uri: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``models:/NAME/latest``, or another URI of an
            MLflow model, which is taken as it is.

    Raises:
        UserError: there is no such version.
    """
    if not uri.startswith("models:/"):
        return ModelVersion(uri, name=None, version=None, run_id=None)
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    client = mlflow.MlflowClient()
    try:
        name, *number = get_model_name_and_version(client, uri)
        if not number:
            return ModelVersion(uri, name=None, version=None, run_id=None)
        run_id = client.get_model_version(name, number[0]).run_id
    except mlflow.MlflowException as error:
        raise _no_model(uri, error) from error
    return ModelVersion(f"models:/{name}/{number[0]}", name=name, version=int(number[0]), run_id=run_id)


def load_classifier(uri: str) -> FilmClassifier:
    """Load what a registered version does into this process, without MLflow around it.

    The code that the version brought along is left alone: this package's own runs.

    Raises:
        UserError: there is no model of this project at ``uri``.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder), "artifacts", "classifier")
        except (mlflow.MlflowException, OSError) as error:
            raise _no_model(uri, error) from error
        if not files.is_dir():
            raise _no_model(uri, "it is a model, but none that this project registered")
        return FilmClassifier.load(files)


def _no_model(uri: str, why: object) -> UserError:
    return UserError(
        f"No model to score films with is at {uri} in MLflow at {mlflow.get_tracking_uri()}: "
        f"{str(why).splitlines()[0][:300]}. Expected an MLflow URI such as models:/cxr-effusion/1 or "
        "models:/cxr-effusion@champion; kedro mlflow ui shows what there is."
    )
