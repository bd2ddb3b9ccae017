"""One retraining, and one ablation, of a task at a time, as Kedro's hooks and the command line see to it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.cli import plainly
from cxr_pipeline.common.locks import Holder, JobLock, Locked
from cxr_pipeline.framework import hooks
from cxr_pipeline.framework.config import Folders


def use(*parameters: object) -> None:
    """A node's function; what it is given does not matter."""


def pipeline_of(task: str, *blocks: str) -> Pipeline:
    node = Node(use, inputs=["params:folders", *(f"params:{block}" for block in blocks)], outputs=None, name="use")
    return Pipeline([node], namespace=task, parameters={"params:folders"})


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    return DataCatalog({"params:folders": MemoryDataset(Folders(**dict.fromkeys(Folders.model_fields, tmp_path)))})


def is_free(folder: Path, task: str, stage: str = "retraining") -> bool:
    lock = JobLock(folder / task / stage / "job.lock", "")
    try:
        lock.take(None)
    except Locked:
        return False
    lock.release()
    return True


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_retraining_holds_the_lock_of_its_task_until_it_ends(catalog, tmp_path: Path, end: str) -> None:
    locking = hooks.Locking()
    locking.before_pipeline_run(pipeline_of("a", "retraining"), catalog)
    assert not is_free(tmp_path, "a")
    assert is_free(tmp_path, "b")
    with pytest.raises(Locked, match="The retraining of a is at work already"):
        hooks.Locking().before_pipeline_run(pipeline_of("a", "retraining"), catalog)
    getattr(locking, end)()
    assert is_free(tmp_path, "a")


def test_an_ablation_and_a_retraining_run_side_by_side_but_no_two_ablations(catalog, tmp_path: Path) -> None:
    ablation, retraining = hooks.Locking(), hooks.Locking()
    ablation.before_pipeline_run(pipeline_of("a", "ablation"), catalog)
    retraining.before_pipeline_run(pipeline_of("a", "retraining"), catalog)
    with pytest.raises(Locked, match="The ablation of a is at work already"):
        hooks.Locking().before_pipeline_run(pipeline_of("a", "ablation"), catalog)
    ablation.after_pipeline_run()
    assert is_free(tmp_path, "a", "ablation")
    assert not is_free(tmp_path, "a")
    retraining.after_pipeline_run()


def test_who_did_not_get_the_lock_does_not_give_it_back(catalog, tmp_path: Path) -> None:
    locking, second = hooks.Locking(), hooks.Locking()
    locking.before_pipeline_run(pipeline_of("a", "retraining"), catalog)
    with pytest.raises(Locked):
        second.before_pipeline_run(pipeline_of("a", "retraining"), catalog)
    second.on_pipeline_error()
    assert not is_free(tmp_path, "a")
    locking.after_pipeline_run()


def test_other_pipelines_take_no_lock(catalog, tmp_path: Path) -> None:
    locking = hooks.Locking()
    locking.before_pipeline_run(pipeline_of("a", "training"), catalog)
    locking.before_pipeline_run(Pipeline([]), catalog)
    locking.after_pipeline_run()
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_is_locked_out_ends_with_its_own_status() -> None:
    holder = Holder("host", 7, 0.0, "2031-05-04T02:00:00+00:00", None)

    @click.command()
    @plainly
    def command(**options: Any) -> None:
        raise Locked("The retraining of a", holder)

    ended = CliRunner().invoke(command)
    assert ended.exit_code == 75
    assert "process 7 on host, since 2031-05-04T02:00:00+00:00" in ended.stderr
    assert "Traceback" not in ended.output


def test_the_run_of_a_job_that_was_killed_is_ended(catalog, tmp_path: Path, monkeypatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(tracking, "end_killed", ended.append)
    record = tmp_path / "a" / "retraining" / "job.json"
    for run_id in ("killed", None):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(asdict(Holder.here(run_id))))
        locking = hooks.Locking()
        locking.before_pipeline_run(pipeline_of("a", "retraining"), catalog)
        locking.after_pipeline_run()
    assert ended == ["killed"]
