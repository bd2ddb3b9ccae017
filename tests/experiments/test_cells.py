import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.training.epoch_selection import EpochSelector


def outcome(error: str | None = None) -> Outcome:
    return Outcome("a cell", error, seconds=3.5, peak_memory_mb=900.0)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("pqr"), min_size=1, unique=True), max_size=3))
def test_a_grid_has_every_combination_once_the_last_factor_changing_fastest(factors: dict[str, list[str]]) -> None:
    grid = cells.cross({name: {level: {name: level} for level in levels} for name, levels in factors.items()})
    assert list(grid.items()) == [
        (", ".join(levels), dict(zip(factors, levels, strict=True))) for levels in itertools.product(*factors.values())
    ]


def test_a_folder_has_a_readable_name_that_a_file_system_allows(tmp_path: Path) -> None:
    one, two = (cells.cell_folder(tmp_path, "vgg16, not augmented/..", digest * 20) for digest in ("ab", "cd"))
    assert one == tmp_path / "vgg16_not_augmented_-abababababab"
    assert one != two
    long = cells.cell_folder(tmp_path, ", ".join(letter * 58 for letter in "abcde"), "ab" * 20)
    assert len(long.name) < 143
    cells.save_outcome(long, outcome())
    assert cells.is_done(long)


def test_only_a_cell_that_succeeded_is_done(tmp_path: Path) -> None:
    assert not cells.is_done(tmp_path)
    cells.save_outcome(tmp_path, outcome("there is no such image"))
    assert not cells.is_done(tmp_path)
    cells.save_outcome(tmp_path, outcome())
    assert cells.is_done(tmp_path)
    (tmp_path / "outcome.json").write_text('{"name": "a cell", "err')
    assert not cells.is_done(tmp_path)


@pytest.fixture
def finished(tmp_path: Path) -> dict[str, Any]:
    """A cell with a history of three epochs and one test image."""
    reporting, scores = tmp_path / "08_reporting" / "t", tmp_path / "07_model_output" / "t"
    reporting.mkdir(parents=True)
    scores.mkdir(parents=True)
    history = pd.DataFrame({"epoch": [1, 2, 3], "val_auc": [0.7, 0.8, 0.6], "val_recall": [0.2, 0.5, 0.9]})
    history.to_csv(reporting / "history.csv", index=False)
    (reporting / "metrics.json").write_text(json.dumps({"kind": "binary"}))
    pd.DataFrame({"image": ["a.png"]}).to_parquet(scores / "test_scores.parquet")
    cells.save_outcome(tmp_path, outcome())
    cells.save_mlflow_run(tmp_path, "7f")
    overrides = {"training": {"loss": "focal"}}
    return {**cells.load_outcome(tmp_path), "overrides": overrides, "folder": str(tmp_path)}


@pytest.mark.parametrize(("monitor", "epoch", "auc"), [("val_auc", 2, 0.8), ("val_recall", 3, 0.6)])
def test_a_result_is_that_of_the_selected_epoch(finished: dict[str, Any], monitor: str, epoch: int, auc: float) -> None:
    assert finished["run_id"] == "7f"
    result = cells.read_result(finished, task="t", selector=EpochSelector(monitor, 0.0, None))
    assert (result.kept_epoch, result.validation_auc) == (epoch, auc)
    assert result.parameters == {"training.loss": "focal"}
    assert result.metrics == {"kind": "binary"}
    assert result.test_scores is not None
    assert list(result.test_scores["image"]) == ["a.png"]
    assert (result.seconds, result.peak_memory_mb, result.error) == (3.5, 900.0, None)
    assert result.commit == git_commit()


def test_the_result_of_a_failed_cell_is_its_error(tmp_path: Path) -> None:
    cells.save_outcome(tmp_path, outcome("Training diverged"))
    cell = {**cells.load_outcome(tmp_path), "overrides": {}, "folder": str(tmp_path)}
    result = cells.read_result(cell, task="t", selector=EpochSelector("val_auc", 0.0, None))
    assert (result.error, result.metrics, result.commit) == ("Training diverged", None, None)
