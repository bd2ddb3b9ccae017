"""The nodes of the ablation stage; whole ablations run in tests/integration."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.framework.config import Ablation, Folders, Parallel, Task
from cxr_pipeline.pipelines import ablation as nodes
from cxr_pipeline.tracking import runs

CELLS = {
    "baseline": {},
    "fixed threshold": {"thresholds": {"policy": {"rule": "fixed", "value": 0.5}}},
    "recall": {"training": {"monitor": "val_recall"}},
    "no dropout": {"model": {"dropout": 0}},
    "baseline again": {"model": {}},
}
SPLITS = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "validation", "test"]})


@pytest.fixture(scope="module")
def parameters():
    """The parameters of a task in the demo environment, with the cells above."""
    ablation = {"baseline": "baseline", "common": {}, "cells": CELLS, "grid": None}
    return {**parameters_of(env="demo"), "ablation": ablation}


@pytest.fixture
def started(monkeypatch):
    """The jobs of the last call; each succeeds and has an MLflow run."""
    jobs = []

    def run_jobs(given, *, width, **parallel):
        assert width == 2, "the number of different trainings, finished or not"
        jobs[:] = given
        for job in given:
            cells.save_mlflow_run(Path(job.log).parent, f"run of {job.name}")
            yield Outcome(job.name, None, seconds=1.0, peak_memory_mb=1.0)

    monkeypatch.setattr(nodes, "run_jobs", run_jobs)
    return jobs


@pytest.fixture
def nested(monkeypatch):
    """The MLflow runs that were nested below others."""
    nested = set()
    monkeypatch.setattr(runs, "nest_run", lambda run, parent: nested.add((run, parent)))
    return nested


def run_cells(run, parameters):
    return nodes.run_cells(
        data_report={"data_digest": "d", "n_images": len(SPLITS)},
        splits=SPLITS,
        ablation=Ablation(**parameters["ablation"]),
        parallel=Parallel(**parameters["parallel"]),
        folders=Folders(**{name: Path(run.project, name) for name in Folders.model_fields}),
        current_run=replace(run, parameters=parameters),
    )


def test_each_cell_is_a_child_run_and_equal_cells_are_run_once(parameters, started, nested, current_run):
    found = run_cells(current_run, parameters)
    assert [cell["name"] for cell in found] == list(CELLS)
    assert [cell["overrides"] for cell in found] == list(CELLS.values())
    assert found[0]["folder"] == found[4]["folder"]
    assert [job.name for job in started] == list(CELLS)[:4]
    assert all(job.payload["runtime_params"]["raw"] == "/r" for job in started)
    training = {job.name: job.shares[0] for job in started}
    assert training["baseline"] == training["fixed threshold"] == training["recall"] != training["no dropout"]


def test_a_later_call_reuses_cells_whose_results_cannot_differ(parameters, started, nested, current_run):
    run_cells(current_run, parameters)
    nested.clear()
    run_cells(current_run, lay_over(parameters, {"task": {"title": "Another"}, "resolution": {"workers": 2}}))
    assert started == []
    assert nested == {(f"run of {name}", "parent") for name in list(CELLS)[:4]}
    run_cells(current_run, lay_over(parameters, {"evaluation": {"replicates": 500}}))
    assert len(started) == 4


TASK = Task(name="chest", title="Chest", kind="binary", classes={"no": ("no",), "yes": ("yes",)})


def cell(name, error=None, *, retryable=False):
    return {"name": name, "error": error, "retryable": retryable}


def test_only_a_failed_baseline_fails_the_ablation():
    nodes.check_cells([cell("baseline"), cell("too fast", "it diverged"), cell("flat")], "<html>", TASK)
    message = r"1 of 2 cells of chest failed.*first: it diverged.*'first'.*chest\.ablation\.baseline"
    with pytest.raises(UserError, match=message) as error:
        nodes.check_cells([cell("first", "it diverged"), cell("second")], "<html>", TASK)
    assert not isinstance(error.value, Unavailable)


@pytest.mark.parametrize("baseline", [None, "it diverged"])
def test_killed_cells_can_be_retried(baseline):
    found = [cell("first", baseline), cell("second", "killed by signal 9", retryable=True), cell("third")]
    with pytest.raises(Unavailable, match=r"second: killed by signal 9\. Run the same command again"):
        nodes.check_cells(found, "<html>", TASK)
