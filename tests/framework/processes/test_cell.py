"""The process of a cell up to the Kedro run; whole cells run in tests/integration."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.task_run import TaskRun
from cxr_pipeline.framework.processes import cell


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of Kedro's session and of its run."""
    seen: dict[str, Any] = {}

    class Session:
        def __enter__(self) -> "Session":
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def run(self, **arguments: Any) -> None:
            seen["run"] = arguments

    def create(project: str, **arguments: Any) -> Session:
        seen.update(project=project, cwd=str(Path.cwd()), uri=os.environ["MLFLOW_TRACKING_URI"], **arguments)
        return Session()

    monkeypatch.setattr(cell, "bootstrap_project", lambda project: seen.update(bootstrapped=str(Path.cwd())))
    monkeypatch.setattr(cell.KedroSession, "create", create)
    monkeypatch.setattr(tracking, "last_run_id", lambda: "8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///of-the-worker.db")
    monkeypatch.chdir(".")
    return seen


def test_a_cell_has_the_settings_of_its_parent_wherever_its_worker_was_started(
    current_run: TaskRun, tmp_path: Path, session: dict[str, Any]
) -> None:
    child = current_run.child("a cell", folder=tmp_path, to_output="metrics", overrides={"training": {"epochs": 9}})
    cell.execute(child)
    assert session["bootstrapped"] == session["cwd"] == child.cwd
    assert (session["project"], session["env"], session["conf_source"]) == (child.project, "demo", child.conf_source)
    assert session["uri"] == child.tracking_uri
    assert session["runtime_params"] == child.runtime_params
    assert session["run"]["to_outputs"] == ["effusion.metrics"]
    assert "effusion.earlier_splits" in session["run"]["from_inputs"]
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == "8"


def test_a_machine_without_the_working_directory_is_an_error(current_run: TaskRun, session: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"/gone, cannot be entered on this machine .* same folders"):
        cell.execute(replace(current_run, cwd="/gone"))
    assert "project" not in session
