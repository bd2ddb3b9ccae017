import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Node, Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.common.locks import Holder, Locked, RunLock
from cxr_pipeline.framework import hooks


class Loader(dict[str, Any]):
    """A config loader of a project with the given data folder."""

    def __init__(self, data: Path, cell: Path | None = None) -> None:
        super().__init__(globals={"data": str(data)})
        self.runtime_params = {"cell": {"folder": str(cell)}} if cell else {}


def locking_in(data: Path, cell: Path | None = None) -> hooks.Locking:
    locking = hooks.Locking()
    locking._config_loader = Loader(data, cell)
    return locking


def pipeline_of(*tasks: str) -> Pipeline:
    node = Node(lambda: 0, None, "output", name="use")
    return sum((Pipeline([node], namespace=task) for task in tasks), Pipeline([]))


def start(locking: hooks.Locking, *tasks: str) -> None:
    locking.before_pipeline_run({"pipeline_names": list(tasks)}, pipeline_of(*tasks))


def is_free(data: Path, task: str) -> bool:
    lock = RunLock(data / "02_intermediate" / task / "run.lock", task)
    try:
        lock.acquire("test")
    except Locked:
        return False
    lock.release()
    return True


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_run_holds_the_lock_of_its_task_until_it_ends(tmp_path: Path, end: str) -> None:
    locking = locking_in(tmp_path)
    start(locking, "a")
    assert not is_free(tmp_path, "a")
    assert is_free(tmp_path, "b")
    with pytest.raises(Locked, match=r"^a is already running \(a, process"):
        start(locking_in(tmp_path), "a")
    getattr(locking, end)()
    assert is_free(tmp_path, "a")


def test_a_refused_run_releases_only_its_own_locks(tmp_path: Path) -> None:
    first, second = locking_in(tmp_path), locking_in(tmp_path)
    start(first, "b")
    with pytest.raises(Locked, match=r"^b is already running"):
        start(second, "a", "b")
    second.on_pipeline_error()
    assert is_free(tmp_path, "a")
    assert not is_free(tmp_path, "b")
    first.after_pipeline_run()


def test_a_cell_has_its_own_lock(tmp_path: Path) -> None:
    parent, cell = locking_in(tmp_path / "data"), locking_in(tmp_path / "data", cell=tmp_path / "cell")
    start(parent, "a")
    start(cell, "a")
    assert not is_free(tmp_path / "cell", "a")
    cell.after_pipeline_run()
    parent.after_pipeline_run()


def test_a_run_can_start_after_one_that_failed_before_its_first_node(tmp_path: Path) -> None:
    locking = locking_in(tmp_path)
    start(locking, "a")  # Then another hook fails, after which Kedro calls no hook.
    start(locking, "a")
    locking.after_pipeline_run()
    assert is_free(tmp_path, "a")


def test_the_mlflow_run_of_a_killed_holder_is_ended_and_the_new_one_recorded(tmp_path: Path, monkeypatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(tracking, "end_killed", ended.append)
    monkeypatch.setattr(tracking, "last_run_id", lambda: "current")
    record = tmp_path / "02_intermediate" / "a" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({**asdict(Holder.current("a_retraining")), "run_id": "killed"}))
    locking = locking_in(tmp_path)
    start(locking, "a")
    assert ended == []
    locking.note_tracking()
    assert ended == ["killed"]
    assert json.loads(record.read_text())["run_id"] == "current"
    locking.after_pipeline_run()
