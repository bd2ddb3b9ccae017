"""The lock of a run, and its MLflow run in a file."""

import re
import shutil
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner
from stub_models import mlflow_file

from cxr_pipeline.common.locks import Locked, RunLock
from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.framework import config, hooks
from cxr_pipeline.framework.datasets import FiguresDataset, FileDataset
from cxr_pipeline.tracking import runs

PASSWORD = "postgresql://me:secret@host/studies"
SPACE = {"model": {"dropout": {"low": 0, "high": 0.5}}}
TUNING = config.Tuning(storage=PASSWORD, n_trials=3, folds=1, seed=1, pruner={"name": "none"}, space=SPACE)


def hook_in(folder, cell=None):
    """Return the hook of a project with its data in a folder."""

    class Loader(dict[str, Any]):
        runtime_params = {"cell": cell} if cell else None
        conf_source = "conf"

    project = {"data": str(folder), "artifacts": str(folder / "artifacts"), "tracking_uri": "sqlite://"}
    hook = hooks.Lifecycle()
    loader = Loader(globals=project, parameters={"t": {"model": {"name": "small_cnn"}, "resolution": {"size": 48}}})
    hook.after_context_created(SimpleNamespace(config_loader=loader, env=None))
    return hook


@pytest.fixture
def client(tmp_path):
    with mlflow_file(tmp_path):
        yield mlflow.MlflowClient()


FOLDERS = {"layout": "class_folders", "path": "x"}
PHANTOMS = {"layout": "phantoms", "path": "x", "n_patients": 3, "prevalence": {"Effusion": 0.5}}


@pytest.fixture
def run(tmp_path, client):
    """Run a node of the task ``t`` and return its MLflow run."""

    def run(node, *, runner=SequentialRunner, namespace="t", cell=None, source=FOLDERS):
        catalog = DataCatalog(
            {
                "params:t.sources": MemoryDataset(config.Sources({"images": source})),
                "params:t.tuning": MemoryDataset(TUNING),
                "params:t.cells": MemoryDataset({"a, b": {"epochs": 1, "storage": PASSWORD}}),
                "params:folders": MemoryDataset(config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path))),
                "t.metrics": FileDataset(filepath=tmp_path / "metrics.json", metadata={"mlflow": "artifact"}),
                "t.figures": FiguresDataset(filepath=tmp_path / "figures", metadata={"mlflow": "artifact"}),
                "t.cells": FileDataset(filepath=tmp_path / "cells.json"),
            }
        )
        inputs = ["params:t.tuning", "params:t.cells", "params:folders"]
        pipeline = Pipeline([Node(node, inputs, ["t.metrics", "t.figures", "t.cells"], name="n", namespace=namespace)])
        manager = _create_hook_manager()
        _register_hooks(manager, (hook_in(tmp_path, cell),))
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


def succeed(*inputs):
    return {"auc": 0.5}, {"roc": b"PNG"}, {}


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_a_run_is_logged_with_parameters_tags_and_artifacts(run, client, tmp_path, runner):
    logged = run(succeed, runner=runner)
    assert client.get_experiment(logged.info.experiment_id).name == "cxr-t"
    assert re.fullmatch(r"t_tuning \d{4}-\d\d-\d\dT\d\d:\d\dZ", logged.info.run_name)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["tuning.n_trials"] == "3"
    assert logged.data.params["cells.a_ b.epochs"] == "1"
    assert not any("folders" in name for name in logged.data.params)
    options = "--env demo --pipeline=t_tuning --params 'storage=postgresql://me:***@host/studies,cell=null'"
    tags = {"task": "t", "images": "real", "pipeline": "t_tuning", "kedro_command": f"kedro run {options}"}
    assert tags.items() <= logged.data.tags.items()
    assert "tags" not in logged.data.tags
    assert "secret" not in str(logged.data)
    paths = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert paths == {"metrics.json", "figures"}
    assert (tmp_path / "artifacts" / logged.info.run_id / "artifacts" / "figures" / "roc.png").read_bytes() == b"PNG"


def test_a_cell_is_nested_below_its_parent_run(run, client):
    logged = run(succeed, source=PHANTOMS, cell={"name": "baseline" * 40, "parent_run": "p" * 32})
    assert client.get_experiment(logged.info.experiment_id).name == "cxr-t-demo"
    assert logged.data.tags["images"] == "phantom"
    assert logged.info.run_name == ("baseline" * 40)[:250]
    assert logged.data.tags["mlflow.parentRunId"] == "p" * 32
    assert (logged.data.tags["cell"], "kedro_command" in logged.data.tags) == ("baseline" * 40, False)


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_stopped_run_is_marked_as_failed_or_killed(run, error, status):
    def stop(*inputs):
        raise error

    logged = run(stop)
    assert logged.info.status == status
    assert mlflow.active_run() is None


def test_a_pipeline_without_a_task_has_no_run(run):
    assert run(succeed, namespace=None) is None


@pytest.fixture
def started(monkeypatch):
    """The arguments of the runs that were started, with a stub of MLflow."""
    started = []
    monkeypatch.setattr(runs, "start_run", lambda *args, **run: started.append(run) or "current")
    monkeypatch.setattr(runs, "end_active_run", lambda status: None)
    return started


def start(hook):
    node = Node(lambda run: 0, CURRENT_RUN, "output", name="use")
    pipeline = Pipeline([node], namespace="t", inputs={CURRENT_RUN})
    run_params = {"pipeline_names": ["t_tuning"], "env": "demo", "runtime_params": None, "project_path": "here"}
    catalog = DataCatalog()
    hook.before_pipeline_run(run_params, pipeline, catalog)
    return catalog


def test_the_name_of_a_run_that_trains_has_the_network_and_the_size_of_its_images(started, tmp_path):
    start(hook_in(tmp_path))
    assert re.fullmatch(r"t_tuning small_cnn 48px \S+Z", started[0]["name"])


def is_free(folder, task="t"):
    lock = RunLock(folder / "02_intermediate" / task / "run.lock", task)
    try:
        lock.acquire("test")
    except Locked:
        return False
    lock.release()
    return True


END = {"finished": lambda hook: hook.after_pipeline_run(), "failed": lambda hook: hook.on_pipeline_error(ValueError())}


@pytest.mark.parametrize("end", END)
def test_a_run_holds_the_lock_of_its_task_until_it_ends(started, tmp_path, end):
    hook, other, cell = hook_in(tmp_path), hook_in(tmp_path), hook_in(tmp_path, {"folder": str(tmp_path / "cell")})
    # Kedro calls no hook after one that failed before the first node.
    start(hook)
    start(hook)
    assert (is_free(tmp_path), is_free(tmp_path, "another"), is_free(tmp_path / "cell")) == (False, True, True)
    start(cell)
    assert not is_free(tmp_path / "cell")
    with pytest.raises(Locked, match=r"^t is already running \(t_tuning, process"):
        start(other)
    other.on_pipeline_error(ValueError())
    assert not is_free(tmp_path)
    for running in (cell, hook):
        END[end](running)
    assert is_free(tmp_path)


@pytest.mark.parametrize("damage", [None, b"\xff\x00"])
def test_a_data_folder_keeps_its_id_also_if_it_is_damaged_and_a_copy_has_another(started, tmp_path, damage):
    if damage is not None:
        file = tmp_path / "data" / "02_intermediate" / "t" / "folder_id"
        file.parent.mkdir(parents=True)
        file.write_bytes(damage)
    for name in ("data", "data", "copy"):
        hook = hook_in(tmp_path / name)
        start(hook)
        hook.after_pipeline_run()
        shutil.copytree(tmp_path / "data", tmp_path / "copy", dirs_exist_ok=True)
    first, second, copied = (run["folder"] for run in started)
    assert first == second != copied
