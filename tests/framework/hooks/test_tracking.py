"""The tracking hook in a real Kedro run, with MLflow in a file."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from cxr_pipeline.framework import config, hooks
from cxr_pipeline.framework.datasets.files import FileDataset
from cxr_pipeline.framework.datasets.folders import FiguresDataset

PASSWORD = "postgresql://me:secret@host/studies"
SPACE = {"model": {"dropout": {"low": 0, "high": 0.5}}}
TUNING = config.Tuning(storage=PASSWORD, n_trials=3, seed=1, pruner={"name": "none"}, space=SPACE)


@pytest.fixture
def client(tmp_path: Path, empty_database: Path) -> Iterator[mlflow.MlflowClient]:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def run(tmp_path: Path, client: mlflow.MlflowClient) -> Callable[..., Any]:
    """Run a node of the task ``t`` and return its MLflow run."""

    def run(node: Callable[..., Any], *, runner: Any = SequentialRunner, namespace: str | None = "t", cell=None) -> Any:
        catalog = DataCatalog(
            {
                "params:t.tuning": MemoryDataset(TUNING),
                "params:t.cells": MemoryDataset({"a, b": {"epochs": 1}}),
                "params:folders": MemoryDataset(config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path))),
                "t.metrics": FileDataset(filepath=tmp_path / "metrics.json", metadata={"mlflow": "artifact"}),
                "t.figures": FiguresDataset(filepath=tmp_path / "figures", metadata={"mlflow": "artifact"}),
                "t.cells": FileDataset(filepath=tmp_path / "cells.json"),
            }
        )
        inputs = ["params:t.tuning", "params:t.cells", "params:folders"]
        pipeline = Pipeline([Node(node, inputs, ["t.metrics", "t.figures", "t.cells"], name="n", namespace=namespace)])
        manager = _create_hook_manager()
        _register_hooks(manager, (hooks.Tracking(),))
        loader = {"globals": {"artifacts": str(tmp_path / "artifacts")}}
        manager.hook.after_context_created(context=SimpleNamespace(config_loader=loader, env=None))
        parameters = {"storage": PASSWORD, "cell": cell}
        run_params = {"pipeline_names": ["t_tuning"], "env": "demo", "tags": None, "runtime_params": parameters}
        call = {"run_params": run_params, "pipeline": pipeline, "catalog": catalog}
        manager.hook.before_pipeline_run(**call)
        try:
            runner().run(pipeline, catalog, manager)
        except BaseException as error:
            manager.hook.on_pipeline_error(error=error, **call)
        else:
            manager.hook.after_pipeline_run(run_result={}, **call)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return next(iter(client.search_runs(experiments)), None)

    return run


def succeed(*inputs: object) -> tuple[object, ...]:
    return {"auc": 0.5}, {"roc": b"PNG"}, {}


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_a_run_is_logged_with_parameters_tags_and_artifacts(run, client, tmp_path, runner) -> None:
    logged = run(succeed, runner=runner)
    assert client.get_experiment(logged.info.experiment_id).name == "cxr-t"
    assert (logged.info.run_name, logged.info.status) == ("t_tuning", "FINISHED")
    assert logged.data.params["tuning.n_trials"] == "3"
    assert logged.data.params["cells.a_ b.epochs"] == "1"
    assert not any("folders" in name for name in logged.data.params)
    tags = {"task": "t", "images": "real", "env": "demo", "pipeline_names": "['t_tuning']"}
    assert tags.items() <= logged.data.tags.items()
    assert "tags" not in logged.data.tags
    assert "secret" not in str(logged.data)
    paths = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert paths == {"metrics.json", "figures"}
    assert (tmp_path / "artifacts" / logged.info.run_id / "artifacts" / "figures" / "roc.png").read_bytes() == b"PNG"


def test_a_cell_is_nested_below_its_parent_run(run) -> None:
    logged = run(succeed, cell={"name": "baseline" * 40, "parent_run": "p" * 32})
    assert logged.info.run_name == ("baseline" * 40)[:250]
    assert logged.data.tags["mlflow.parentRunId"] == "p" * 32


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_stopped_run_is_marked_as_failed_or_killed(run, error, status) -> None:
    def stop(*inputs: object) -> None:
        raise error

    logged = run(stop)
    assert logged.info.status == status
    assert mlflow.active_run() is None


def test_a_pipeline_without_a_task_has_no_run(run) -> None:
    assert run(succeed, namespace=None) is None
