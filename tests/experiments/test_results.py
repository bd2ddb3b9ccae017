import json
from pathlib import Path

import pandas as pd
import pytest

from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments import results
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.training.epoch_selection import EpochSelector

OVERRIDES = {"training": {"loss": "focal"}}


def outcome(error: str | None = None) -> Outcome:
    return Outcome("a cell", error, seconds=3.5, peak_memory_mb=900.0)


def test_folders_can_be_read_by_people_and_differ_by_digest(tmp_path: Path) -> None:
    one, two = (results.cell_folder(tmp_path, "vgg16, not augmented/..", digest * 20) for digest in ("ab", "cd"))
    assert one.name == "vgg16_not_augmented_-abababababab"
    assert one.parent == two.parent == tmp_path
    assert one != two


def test_a_folder_of_a_long_name_can_be_made(tmp_path: Path) -> None:
    name = ", ".join(letter * 58 for letter in "abcde")
    one, two = (results.cell_folder(tmp_path, name, digest * 20) for digest in ("ab", "cd"))
    results.keep(outcome(), one)
    assert results.is_done(one)
    assert not results.is_done(two)
    assert one.name.startswith("a" * 58 + "_b")
    assert len(one.name) < 143


def test_only_a_cell_that_succeeded_is_done(tmp_path: Path) -> None:
    assert not results.is_done(tmp_path)
    results.keep(outcome("there is no such image"), tmp_path)
    assert not results.is_done(tmp_path)
    results.keep(outcome(), tmp_path)
    assert results.is_done(tmp_path)
    (tmp_path / "outcome.json").write_text('{"name": "a cell", "err')
    assert not results.is_done(tmp_path)


def test_a_result_is_read_back_with_its_run(tmp_path: Path) -> None:
    results.keep(outcome(), tmp_path)
    found = results.result_of("a", OVERRIDES, tmp_path)
    assert (found.run_id, found.commit) == (None, None)
    results.note_run(tmp_path, "7f")
    found = results.result_of("a", OVERRIDES, tmp_path)
    assert found.commit == git_commit()
    assert (found.name, found.overrides, found.folder, found.run_id) == ("a", OVERRIDES, str(tmp_path), "7f")
    assert (found.error, found.seconds, found.peak_memory_mb, found.may_pass) == (None, 3.5, 900.0, False)


@pytest.fixture
def finished(tmp_path: Path) -> results.CellResult:
    """A cell with a history of three epochs and one test image."""
    reporting, scores = tmp_path / "08_reporting" / "t", tmp_path / "07_model_output" / "t"
    reporting.mkdir(parents=True)
    scores.mkdir(parents=True)
    history = pd.DataFrame({"epoch": [1, 2, 3], "val_auc": [0.7, 0.8, 0.6], "val_recall": [0.2, 0.5, 0.9]})
    history.to_csv(reporting / "history.csv", index=False)
    (reporting / "metrics.json").write_text(json.dumps({"kind": "binary"}))
    pd.DataFrame({"image": ["a.png"]}).to_parquet(scores / "test_scores.parquet")
    results.keep(outcome(), tmp_path)
    return results.result_of("a", OVERRIDES, tmp_path)


@pytest.mark.parametrize(("monitor", "epoch", "auc"), [("val_auc", 2, 0.8), ("val_recall", 3, 0.6)])
def test_findings_are_those_of_the_epoch_that_was_kept(
    finished: results.CellResult, monitor: str, epoch: int, auc: float
) -> None:
    found = results.read_findings(finished, task="t", choice=EpochSelector(monitor, 0.0, None))
    assert (found.kept_epoch, found.validation_auc) == (epoch, auc)
    assert found.parameters == {"training.loss": "focal"}
    assert found.metrics == {"kind": "binary"}
    assert list(found.test_scores["image"]) == ["a.png"]
    assert (found.seconds, found.peak_memory_mb, found.error) == (3.5, 900.0, None)


def test_of_a_cell_that_failed_there_is_its_reason(tmp_path: Path) -> None:
    results.keep(outcome("Training diverged"), tmp_path)
    found = results.read_findings(
        results.result_of("a", OVERRIDES, tmp_path), task="t", choice=EpochSelector("val_auc", 0.0, None)
    )
    assert (found.error, found.metrics) == ("Training diverged", None)
