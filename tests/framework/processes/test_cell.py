"""What the process of a cell does before Kedro runs; whole cells run in tests/integration."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.cells import Cell
from cxr_pipeline.experiments.shared_inputs import INPUTS, keep_inputs
from cxr_pipeline.framework.processes import cell as cell_process


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    for folder in ("place", "cell"):
        (tmp_path / folder).mkdir()
    return Cell(
        project=str(tmp_path / "project"),
        place=str(tmp_path / "place"),
        conf_source=str(tmp_path / "other conf"),
        env="demo",
        runtime_params={"raw": "images", "t": {"training": {"epochs": 3, "loss": "focal"}}},
        tracking_uri="http://127.0.0.1:5000",
        parent_run="7",
        task="t",
        name="a cell",
        folder=str(tmp_path / "cell"),
        inputs=str(tmp_path / "inputs"),
        checkpoints=str(tmp_path / "checkpoints"),
        overrides={"training": {"epochs": 9}},
        wanted="metrics",
    )


@pytest.fixture
def kedro(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Kedro's session is created and called with."""
    seen: dict[str, Any] = {}

    class Session:
        def __enter__(self) -> "Session":
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def run(self, **called: Any) -> None:
            seen["run"] = called

    def create(project: str, **created: Any) -> Session:
        seen.update(project=project, place=str(Path.cwd()), uri=os.environ["MLFLOW_TRACKING_URI"], **created)
        return Session()

    monkeypatch.setattr(cell_process, "bootstrap_project", lambda project: seen.update(bootstrapped=str(Path.cwd())))
    monkeypatch.setattr(cell_process.KedroSession, "create", create)
    monkeypatch.setattr(tracking, "last_run_id", lambda: "8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///of-the-worker.db")
    monkeypatch.chdir(".")
    return seen


def test_a_cell_runs_as_the_run_that_it_belongs_to_wherever_its_worker_was_started(cell: Cell, kedro) -> None:
    cell_process.run_cell(cell)
    assert kedro["bootstrapped"] == kedro["place"] == cell.place
    assert (kedro["project"], kedro["env"], kedro["conf_source"]) == (cell.project, "demo", cell.conf_source)
    assert kedro["uri"] == cell.tracking_uri
    assert kedro["runtime_params"] == {
        "raw": "images",
        "t": {"training": {"epochs": 9, "loss": "focal"}},
        "folders": {"checkpoints": cell.checkpoints},
        "cell": {"name": "a cell", "folder": cell.folder, "inputs": cell.inputs, "parent_run": "7"},
    }
    assert kedro["run"]["to_outputs"] == ["t.metrics"]
    assert json.loads(Path(cell.folder, "run.json").read_text())["run_id"] == "8"


def test_a_machine_without_the_folder_of_the_run_is_told(cell: Cell, kedro) -> None:
    Path(cell.place).rmdir()
    with pytest.raises(UserError, match=r"cannot be entered on this machine .* same folders"):
        cell_process.run_cell(cell)
    assert "project" not in kedro


def test_what_cells_take_stays_as_it_is_when_another_run_writes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for place in INPUTS.values():
        (data / place.format("t")).parent.mkdir(parents=True, exist_ok=True)
        (data / place.format("t")).write_text(f"first {place}")
    kept = keep_inputs(data, tmp_path / "kept", "t")
    for place in INPUTS.values():
        (data / place.format("t")).write_text("second")
    assert [Path(kept, place.format("t")).read_text() for place in INPUTS.values()] == [
        f"first {place}" for place in INPUTS.values()
    ]
