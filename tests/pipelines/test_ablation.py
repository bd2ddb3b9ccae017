"""How an ablation is planned and how it ends; whole ablations run in tests/integration."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr_pipeline import settings
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.experiments.jobs import Job, Outcome
from cxr_pipeline.experiments.shared_inputs import INPUTS
from cxr_pipeline.framework.config import Ablation, Folders, Parallel, Task
from cxr_pipeline.framework.config_loader import TaskConfigLoader
from cxr_pipeline.pipelines.ablation import nodes

CONF = Path(__file__).parents[2] / "conf"
CELLS = {
    "baseline": {},
    "fixed threshold": {"thresholds": {"policy": {"rule": "fixed", "value": 0.5}}},
    "recall": {"training": {"monitor": "val_recall"}},
    "no dropout": {"model": {"dropout": 0}},
}
SPLITS = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "validation", "test"]})


@pytest.fixture(scope="module")
def parameters() -> dict[str, Any]:
    """Those of a task in the demo environment, with the cells above."""
    shipped: dict[str, Any] = TaskConfigLoader(str(CONF), env="demo", **settings.CONFIG_LOADER_ARGS)["parameters"]
    return {**shipped["effusion"], "ablation": {"baseline": "baseline", "common": {}, "cells": CELLS, "grid": None}}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs of the last call; each leaves a checkpoint."""
    jobs: list[Job] = []

    def run_jobs(wanted: Sequence[Job], *, width: int, **parallel: Any) -> Iterator[Outcome]:
        assert width == 3, "as many as could run at a time if none were done yet"
        jobs[:] = wanted
        for job in wanted:
            folder = checkpoints(job)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.npz").touch()
            yield Outcome(job.name, None, seconds=1.0, peak_memory_mb=1.0)

    monkeypatch.setattr(nodes, "run_jobs", run_jobs)
    return jobs


def checkpoints(job: Job) -> Path:
    return Path(job.payload["checkpoints"])


def run_cells(call: dict[str, Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
    folder = Path(call["project"])
    for place in INPUTS.values():
        (file := folder / "data" / place.format("effusion")).parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return nodes.run_cells(
        data_report={"data_digest": "d", "n_images": len(SPLITS)},
        splits=SPLITS,
        task=Task(**parameters["task"]),
        ablation=Ablation(**parameters["ablation"]),
        parallel=Parallel(**parameters["parallel"]),
        folders=Folders(**{name: folder / name for name in Folders.model_fields}),
        launch=Launch(**call | {"parent_run": None}, parameters=parameters),
    )


def test_cells_of_one_training_share_its_checkpoints_and_wait_for_it(
    parameters: dict[str, Any], started: list[Job], call: dict[str, Any]
) -> None:
    assert [cell["name"] for cell in run_cells(call, parameters)] == list(CELLS)
    waits = {job.name: job.after for job in started}
    assert list(waits.items()) == [
        *(("baseline", None), ("no dropout", None)),
        *(("fixed threshold", "baseline"), ("recall", "baseline")),
    ]
    places = {job.name: checkpoints(job) for job in started}
    assert places["baseline"] == places["fixed threshold"] == places["recall"] != places["no dropout"]
    assert all(job.payload["runtime_params"]["raw"] == "/r" for job in started)


def test_a_later_call_takes_cells_over_or_at_least_their_trainings(
    parameters: dict[str, Any], started: list[Job], call: dict[str, Any]
) -> None:
    run_cells(call, parameters)
    before = {job.name: checkpoints(job) for job in started}
    run_cells(call, lay_over(parameters, {"task": {"title": "Another"}, "resolution": {"workers": 2}}))
    assert started == []
    run_cells(call, lay_over(parameters, {"evaluation": {"replicates": 500}}))
    assert {job.name: checkpoints(job) for job in started} == before
    assert all((folder / "state.npz").is_file() for folder in before.values())
    run_cells(call, lay_over(parameters, {"training": {"epochs": 7}}))
    assert len(started) == len(CELLS)
    assert not any(folder.exists() for folder in before.values())


TASK = Task(name="chest", title="Chest", kind="binary", classes={"no": ("no",), "yes": ("yes",)})


def cell(name: str, error: str | None = None, *, may_pass: bool = False) -> dict[str, Any]:
    return {"name": name, "error": error, "may_pass": may_pass}


def test_a_cell_that_fails_does_not_fail_the_others() -> None:
    nodes.judge_cells([cell("baseline"), cell("too fast", "it diverged"), cell("flat")], "<html>", TASK)


def test_without_the_baseline_the_run_fails() -> None:
    said = r"1 of 2 cells of chest failed.*first: it diverged.*'first'.*chest\.ablation\.baseline"
    with pytest.raises(UserError, match=said) as no:
        nodes.judge_cells([cell("first", "it diverged"), cell("second")], "<html>", TASK)
    assert not isinstance(no.value, Unavailable)


@pytest.mark.parametrize("baseline", [None, "it diverged"])
def test_what_was_killed_can_be_run_again(baseline: str | None) -> None:
    found = [cell("first", baseline), cell("second", "it was killed by signal 9", may_pass=True), cell("third")]
    with pytest.raises(Unavailable, match=r"second: it was killed by signal 9\. The same command"):
        nodes.judge_cells(found, "<html>", TASK)
