"""An ablation in the demo environment: killed, and run again on another Dask cluster with an additional cell."""

import json
import signal
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dask.distributed import LocalCluster
from demo_projects import FEW_PATIENTS, arguments, client, data, reporting, runs, stop, succeeded, wait_for

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
    cells = data(folder) / "07_model_output" / "effusion" / "ablation"
    return {outcome["name"]: outcome for outcome in map(json.loads, map(Path.read_text, cells.glob("*/outcome.json")))}


@pytest.fixture(scope="module")
def ablated(tmp_path_factory, new_project, start_kedro, kedro):
    """The project, the outcomes before the kill, and the output of the second run.

    The workers of the second run are started in another folder, in which they leave no files.
    """
    folder = new_project(tmp_path_factory.mktemp("ablation") / "project")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_cells(folder, CELLS)
    process = start_kedro(folder, *arguments("effusion_ablation", FEW_PATIENTS))
    wait_for(lambda: outcomes(folder), process)
    stop(process, signal.SIGKILL)
    before = outcomes(folder)
    write_cells(folder, CELLS | ADDITIONAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
        with LocalCluster(**options) as workers:
            scheduler = f"effusion.parallel.scheduler={workers.scheduler_address}"
            printed = succeeded(kedro(folder, *arguments("effusion_ablation", FEW_PATIENTS, scheduler)))
    assert list(elsewhere.iterdir()) == []
    return folder, before, printed


@pytest.fixture(scope="module")
def table(ablated):
    return pd.read_csv(reporting(ablated[0]) / "ablation.csv").set_index("cell")


def test_cells_that_finished_before_a_kill_are_reused(ablated):
    folder, before, printed = ablated
    assert before["baseline"]["error"] is None
    assert before.items() <= outcomes(folder).items()
    assert f"Reusing {len(before)} of 3 cells" in printed


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
    metrics = json.loads((reporting(demo.folder) / "metrics.json").read_text())
    assert table.loc["baseline", "auc"] == metrics["metrics"]["auc"]["value"]
    assert table.loc["baseline", "auc_too_few_patients"] == metrics["metrics"]["auc"]["too_few_patients"]
    for name in ("accuracy", "sensitivity", "specificity", "precision"):
        assert table.loc["baseline", name] == metrics["metrics"][name]["value"]
        assert table.loc["baseline", f"{name}_low"] == metrics["metrics"][name]["low"]


def test_cells_are_nested_runs_with_their_parameters_and_metrics(ablated, table):
    finished = [run for run in reversed(runs(ablated[0])) if run.info.status == "FINISHED"]
    # A cell that finished just before the kill may have run twice; the later run counts.
    cells = {run.data.tags["cell"]: run for run in finished if "mlflow.parentRunId" in run.data.tags}
    worked = set(table.index) - {"far too fast"}
    assert cells["fixed threshold"].data.params["thresholds.policy.rule"] == "fixed"
    for name in worked:
        assert cells[name].data.metrics["test/auc"] == pytest.approx(table.loc[name, "auc"])
    parents = {cells[name].data.tags["mlflow.parentRunId"] for name in worked}
    assert len(parents) == 1, "reused cells belong to the run that reuses them"
    assert client(ablated[0]).get_run(parents.pop()).data.tags["pipeline"] == "effusion_ablation"
