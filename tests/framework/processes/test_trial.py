import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments import search
from cxr_pipeline.experiments.cells import Cell
from cxr_pipeline.experiments.search import StudyPlan
from cxr_pipeline.experiments.trials import best_trial, importance, trial_table
from cxr_pipeline.framework.processes import trial
from cxr_pipeline.training import callbacks
from cxr_pipeline.training.epoch_selection import EpochSelector

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.fine_tuning.epochs": {"low": 0, "high": 8},
}
AUC = EpochSelector("val_auc", tolerance=0.0, patience=None)


def plan(folder: Path, **changed: Any) -> StudyPlan:
    values = {
        "name": "effusion-1", "storage": f"sqlite:///{folder}/studies.db", "direction": "maximize", "space": SPACE,
        "n_trials": 3, "pruner": {"name": "none"}, "seed": 3, "heartbeat": 1, **changed,
    }  # fmt: skip
    return StudyPlan(**values)


def payload(folder: Path, *, choice: EpochSelector = AUC, **changed: Any) -> dict[str, Any]:
    cell = Cell(
        task="effusion",
        name="",
        folder=str(folder / "cells"),
        inputs=str(folder / "inputs"),
        checkpoints=None,
        overrides={},
        wanted="history",
        project=str(folder),
        place=str(folder),
        conf_source=str(folder / "conf"),
        env="demo",
        runtime_params={"raw": "/data"},
        tracking_uri="sqlite://",
        parent_run="run 0",
    )
    return {"plan": asdict(plan(folder, **changed)), "cell": asdict(cell), "choice": asdict(choice)}


def told(values: Iterable[float], monitor: str = "val_auc") -> Callable[[Cell], None]:
    """A training that tells of an epoch for each value, and leaves a file behind."""

    def run(cell: Cell) -> None:
        Path(cell.folder).mkdir(parents=True, exist_ok=True)
        Path(cell.folder, "model.keras").touch()
        for epoch, value in enumerate(values, start=1):
            callbacks.run_epoch_callbacks({"phase": "frozen", "epoch": epoch, "val_loss": 1.0, monitor: value})

    return run


def run(folder: Path, training: Callable[[Cell], object], **changed: Any) -> optuna.Study:
    trial.run_trial(payload(folder, **changed), training, lambda: "run 1")
    return search.open_study(plan(folder))


def test_a_trial_is_a_cell_of_its_own_with_the_parameters_that_it_was_given(tmp_path: Path) -> None:
    cells: list[Cell] = []

    def training(cell: Cell) -> None:
        cells.append(cell)
        told([0.5])(cell)

    study = run(tmp_path, training)
    assert cells[0].name == "trial 0"
    assert cells[0].folder == str(tmp_path / "cells" / "trial_0000")
    given = study.trials[0].params
    assert cells[0].overrides == {
        "training": {
            "learning_rate": given["training.learning_rate"],
            "fine_tuning": {"epochs": given["training.fine_tuning.epochs"]},
        }
    }
    assert cells[0].checkpoints == f"{cells[0].folder}/checkpoints"
    assert cells[0].runtime_params == {"raw": "/data"}
    assert (cells[0].env, cells[0].parent_run) == ("demo", "run 0")
    assert study.trials[0].user_attrs["run_id"] == "run 1"
    assert list((tmp_path / "cells").iterdir()) == []


@pytest.mark.parametrize(
    ("choice", "values", "worth"),
    [
        (AUC, [0.5, 0.9, 0.7], 0.9),
        (EpochSelector("val_auc", 0.3, None), [0.5, 0.9, 0.7], 0.7),
        (EpochSelector("val_loss", 0.0, None), [0.5, 0.2, 0.4], 0.2),
        (AUC, [math.nan, 0.6], 0.6),
    ],
)
def test_a_trial_is_worth_the_epoch_that_is_kept(
    tmp_path: Path, choice: EpochSelector, values: list[float], worth: float
) -> None:
    study = run(tmp_path, told(values, choice.monitor), choice=choice)
    assert study.trials[0].value == worth
    seen = {epoch: value for epoch, value in enumerate(values, start=1) if not math.isnan(value)}
    assert study.trials[0].intermediate_values == seen


def test_a_trial_that_does_worse_is_pruned_and_trains_no_further(tmp_path: Path) -> None:
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 2}
    run(tmp_path, told([0.8, 0.9, 0.9]), pruner=pruner)
    epochs: list[float] = []

    def bad() -> Iterable[float]:
        for value in (0.4, 0.5, 0.6):
            epochs.append(value)
            yield value

    study = run(tmp_path, told(bad()), pruner=pruner)
    assert epochs == [0.4, 0.5]
    assert [found.state for found in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    table = trial_table(study, list(SPACE))
    assert table["state"].tolist() == ["complete", "pruned"]
    assert table["epochs"].tolist() == [3, 2]
    assert table["value"].tolist() == [0.9, 0.5]
    assert not list((tmp_path / "cells").iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("Training diverged in epoch 2\n(frozen)."), "Training diverged in epoch 2 (frozen)."),
        (MemoryError(), "MemoryError: "),
        (None, "val_auc is not defined in any epoch on these validation images."),
    ],
)
def test_a_trial_that_fails_says_why_and_the_next_one_goes_on(
    tmp_path: Path, error: Exception | None, said: str
) -> None:
    def training(cell: Cell) -> None:
        told([math.nan])(cell)
        if error is not None:
            raise error

    with pytest.raises(type(error) if error else UserError):
        run(tmp_path, training)
    study = run(tmp_path, told([0.5]))
    table = trial_table(study, list(SPACE))
    assert table["state"].tolist() == ["failed", "complete"]
    assert table["reason"].fillna("").tolist() == [said, ""]
    assert table["value"].isna().tolist() == [True, False]
    assert not list((tmp_path / "cells").iterdir())


def test_a_trial_too_many_is_not_even_asked_for(tmp_path: Path) -> None:
    for _ in range(5):
        study = run(tmp_path, told([0.5]))
    assert len(study.trials) == 3


def test_a_trial_that_was_asked_too_many_gives_its_place_back_without_running(tmp_path: Path) -> None:
    cells: list[Cell] = []

    def training(cell: Cell) -> None:
        for _ in range(2):  # two more processes ask while this one trains
            cells.append(cell)
            trial.Objective(plan(tmp_path, n_trials=1), cell, AUC, told([0.9]), lambda: None)
            nested = search.open_study(plan(tmp_path))
            objective = trial.Objective(plan(tmp_path, n_trials=1), cell, AUC, told([0.9]), lambda: None)
            nested.optimize(objective, n_trials=1, catch=(trial.NoPlace,))
        told([0.5])(cell)

    study = run(tmp_path, training, n_trials=1)
    assert [found.state for found in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    table = trial_table(study, list(SPACE))
    assert table["number"].tolist() == [0]
    assert table["value"].tolist() == [0.5]


def test_the_best_is_complete_and_the_first_of_equals(tmp_path: Path) -> None:
    study = search.open_study(plan(tmp_path))
    assert best_trial(study) is None
    for value, state in ((0.9, TrialState.PRUNED), (0.7, None), (0.8, None), (0.8, None)):
        asked = study.ask()
        search.suggest(asked, SPACE)
        if state is None:
            study.tell(asked, value)
        else:
            asked.report(value, step=1)
            study.tell(asked, state=state)
    best = best_trial(study)
    assert best is not None
    assert (best["number"], best["value"]) == (2, 0.8)
    assert best["parameters"] == study.trials[2].params
    smallest = search.open_study(plan(tmp_path, name="effusion-2", direction="minimize"))
    for value in (0.7, 0.6, 0.8):
        smallest.tell(smallest.ask(), value)
    assert (best_trial(smallest) or {})["number"] == 1


def test_importance_is_that_of_the_parameter_that_made_the_value(tmp_path: Path) -> None:
    study = search.open_study(plan(tmp_path))
    for number in range(12):
        asked = study.ask()
        given = search.suggest(asked, SPACE)
        assert importance(study, SPACE, seed=1) == {} or number >= 2
        study.tell(asked, math.log(given["training.learning_rate"]))
    shares = importance(study, SPACE, seed=1)
    assert list(shares) == list(SPACE)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["training.learning_rate"] > 0.8
    assert importance(study, SPACE, seed=1) == shares


def test_without_differences_nothing_is_important(tmp_path: Path) -> None:
    study = search.open_study(plan(tmp_path))
    for _ in range(3):
        asked = study.ask()
        search.suggest(asked, SPACE)
        study.tell(asked, 0.5)
    assert importance(study, SPACE, seed=1) == {}


def killed(folder: Path) -> None:
    """The process of a trial, which dies in its second epoch as if its machine had gone."""

    def training(cell: Cell) -> None:
        told([0.5, 0.6])(cell)
        os._exit(9)

    trial.run_trial(payload(folder), training, lambda: None)


def test_a_killed_trial_is_run_again_with_its_parameters_and_its_folder(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    dead = search.open_study(plan(tmp_path)).trials[0]
    assert (dead.state, dead.intermediate_values) == (TrialState.RUNNING, {1: 0.5, 2: 0.6})
    time.sleep(plan(tmp_path).grace + 1.1)
    folders: list[str] = []

    def training(cell: Cell) -> None:
        folders.append(Path(cell.folder).name)
        assert Path(cell.folder, "model.keras").exists() == (len(folders) == 1)
        told([0.7])(cell)

    def run_trials(n: int) -> Iterable[str | None]:
        for _ in range(n):
            run(tmp_path, training)
            yield None

    study = search.run_search(plan(tmp_path), run_trials)
    table = trial_table(study, list(SPACE))
    assert table["state"].tolist() == ["failed", "complete", "complete", "complete"]
    assert table["reason"].fillna("").tolist() == ["its process died", "", "", ""]
    assert study.trials[1].params == dead.params
    assert study.trials[2].params != dead.params
    assert folders == ["trial_0000", "trial_0002", "trial_0003"]
    assert not list((tmp_path / "cells").iterdir())
