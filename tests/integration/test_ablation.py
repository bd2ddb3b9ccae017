"""An ablation in the demo environment: killed, and run again on another Dask cluster with an additional cell."""

import json
import time
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import yaml
from dask.distributed import LocalCluster

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.training.epochs=2,effusion.resolution.size=48,"
    "effusion.evaluation.replicates=200"
)
ABLATION = ("run", "--env", "demo", "--pipeline=effusion_ablation", "--params", SMALL)
CELLS = {
    "baseline": {},
    "without augmentation": None,
    "without morphology": None,
    "unweighted loss": None,
    "without resampling": None,
    "neither resampling nor weights": None,
    # It starts when the training that it shares with the baseline has finished.
    "fixed threshold": {"thresholds": {"policy": {"rule": "fixed", "value": 0.5}}},
}
ADDITIONAL = {"far too fast": {"training": {"learning_rate": 1e30, "optimizer": "sgd"}}}


def write_cells(folder, cells):
    block = {"effusion": {"ablation": {"cells": cells}}}
    (folder / "conf" / "demo" / "parameters" / "ablation.yml").write_text(yaml.safe_dump(block, sort_keys=False))


def outcomes(folder):
    cells = folder / "data" / "demo" / "07_model_output" / "effusion" / "ablation"
    return {outcome["name"]: outcome for outcome in map(json.loads, map(Path.read_text, cells.glob("*/outcome.json")))}


def kill_in_the_middle(folder, start_kedro):
    """Start the ablation and kill it when the first cell has finished."""
    process = start_kedro(folder, *ABLATION)
    deadline = time.monotonic() + 300
    while not outcomes(folder):
        assert process.poll() is None, process.printed()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


@pytest.fixture(scope="module")
def ablated(tmp_path_factory, new_project, start_kedro, kedro):
    """The project, the outcomes before the kill, and the output of the second run.

    The workers of the second run are started in another folder, in which they leave no files.
    """
    folder = new_project(tmp_path_factory.mktemp("ablation") / "project")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_cells(folder, CELLS)
    kill_in_the_middle(folder, start_kedro)
    before = outcomes(folder)
    write_cells(folder, CELLS | ADDITIONAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
        with LocalCluster(**options) as workers:
            params = f"{SMALL},effusion.parallel.scheduler={workers.scheduler_address}"
            finished = kedro(folder, *ABLATION[:-1], params)
    assert finished.returncode == 0, finished.stdout
    assert list(elsewhere.iterdir()) == []
    return folder, before, finished.stdout


@pytest.fixture(scope="module")
def table(ablated):
    csv = ablated[0] / "data" / "demo" / "08_reporting" / "effusion" / "ablation.csv"
    return pd.read_csv(csv).set_index("cell")


def test_cells_that_finished_before_a_kill_are_reused(ablated):
    folder, before, printed = ablated
    assert before["baseline"]["error"] is None
    assert before.items() <= outcomes(folder).items()
    assert f"Reusing {len(before)} of 3 cells" in " ".join(printed.split())


def test_every_cell_has_a_row_and_the_baseline_comes_first(table):
    assert list(table.index) == ["baseline", "fixed threshold", "far too fast"]
    worked = table.drop(index="far too fast")
    assert (worked["accuracy_low"] <= worked["accuracy"]).all()
    assert (worked["accuracy"] <= worked["accuracy_high"]).all()
    # The few test patients give the AUC and its differences no interval.
    assert worked["auc_too_few_patients"].between(1, 4).all()
    assert worked[["auc_low", "auc_high", "p_holm"]].isna().all(axis=None)
    assert worked.loc["fixed threshold", "auc_difference"] == 0
    assert (worked["peak_memory_mb"].max() / worked["peak_memory_mb"].min()) < 1.3


def test_the_baseline_equals_a_run_of_the_task(demo, table):
    metrics = json.loads((demo.folder / "data/demo/08_reporting/effusion/metrics.json").read_text())
    assert table.loc["baseline", "auc"] == metrics["metrics"]["auc"]["value"]
    assert table.loc["baseline", "auc_too_few_patients"] == metrics["metrics"]["auc"]["too_few_patients"]
    for name in ("accuracy", "sensitivity", "specificity", "precision"):
        assert table.loc["baseline", name] == metrics["metrics"][name]["value"]
        assert table.loc["baseline", f"{name}_low"] == metrics["metrics"][name]["low"]


def test_cells_are_nested_runs_with_their_parameters_and_metrics(ablated, table):
    client = mlflow.MlflowClient(f"sqlite:///{ablated[0] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cxr-effusion-demo")
    runs = client.search_runs(
        [experiment.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time ASC"]
    )
    # A cell that finished just before the kill may have run twice; the later run counts.
    cells = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    worked = set(table.index) - {"far too fast"}
    assert cells["fixed threshold"].data.params["thresholds.policy.rule"] == "fixed"
    for name in worked:
        assert cells[name].data.metrics["test/auc"] == pytest.approx(table.loc[name, "auc"])
    parents = {cells[name].data.tags["mlflow.parentRunId"] for name in worked}
    assert len(parents) == 1, "reused cells belong to the run that reuses them"
    assert client.get_run(parents.pop()).info.run_name == "effusion_ablation"
