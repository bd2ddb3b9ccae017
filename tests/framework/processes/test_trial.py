import math
import multiprocessing
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from stub_models import plan_study

from cxr_pipeline.common.errors import Terminated, UserError
from cxr_pipeline.experiments import search
from cxr_pipeline.framework.processes import cell, trial
from cxr_pipeline.tracking import runs
from cxr_pipeline.training.checkpoints import run_epoch_callback

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.fine_tuning.epochs": {"low": 0, "high": 8},
}
AUC = {"monitor": "val_auc", "tolerance": 0.0}


def plan(folder, **changes):
    return plan_study(folder, **{"space": SPACE, "n_trials": 3, "pruner": {"name": "none"}, **changes})


@pytest.fixture
def run(tmp_path, current_run, monkeypatch):
    """Run a trial with the given training; return the study."""
    monkeypatch.setattr(runs, "last_run_id", lambda: "run 1")

    def run(training, selected_by=AUC, **changes):
        monkeypatch.setattr(cell, "execute", training)
        trial.run_trial(payload(tmp_path, current_run, plan(tmp_path, **changes), selected_by))
        return search.open_study(plan(tmp_path))

    return run


def payload(folder, run, study_plan, selected_by=AUC):
    run = replace(run, parameters={"training": selected_by})
    return {"plan": asdict(study_plan), "run": asdict(run), "folder": str(folder / "trials")}


def training_with(values, monitor="val_auc"):
    """Make a training with one epoch per metric value that writes a file to its folder."""

    def train(run):
        folder = Path(run.runtime_params["cell"]["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.keras").touch()
        for epoch, value in enumerate(values, start=1):
            run_epoch_callback({"phase": "frozen", "epoch": epoch, "member": 1, "val_loss": 1.0, monitor: value})

    return train


def test_a_trial_is_a_child_run_with_its_parameters(run, current_run, tmp_path):
    children = []

    def train(child):
        children.append(child)
        training_with([0.5])(child)

    study = run(train)
    folder = tmp_path / "trials" / "trial_0000"
    params = study.trials[0].params
    fine_tuning = {"epochs": params["training.fine_tuning.epochs"]}
    overrides = {"learning_rate": params["training.learning_rate"], "fine_tuning": fine_tuning}
    assert children[0].to_output == "history", "a trial never reads a test image"
    assert children[0].runtime_params == {
        **current_run.runtime_params,
        "effusion": {"training": {"folds": 1, **overrides}},
        "cell": {"name": "trial 0", "folder": str(folder), "parent_run": "parent"},
        "folders": {"checkpoints": str(folder / "checkpoints")},
    }
    assert study.trials[0].user_attrs["run_id"] == "run 1"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("selected_by", "values", "value"),
    [
        (AUC, [0.5, 0.9, 0.7], 0.9),
        (AUC | {"tolerance": 0.3}, [0.5, 0.9, 0.7], 0.7),
        (AUC | {"monitor": "val_loss"}, [0.5, 0.2, 0.4], 0.2),
        (AUC, [math.nan, 0.6], 0.6),
    ],
)
def test_the_value_of_a_trial_is_that_of_the_selected_epoch(run, selected_by, values, value):
    study = run(training_with(values, selected_by["monitor"]), selected_by)
    assert study.trials[0].value == value
    reported = {epoch: value for epoch, value in enumerate(values, start=1) if not math.isnan(value)}
    assert study.trials[0].intermediate_values == reported


def test_the_value_of_several_networks_is_the_mean_of_their_last_epochs_and_the_first_is_reported(run):
    def train(child):
        assert child.runtime_params["effusion"]["training"]["folds"] == 2
        for member, aucs in ((1, [0.5, 0.9]), (2, [0.7, 0.6])):
            for epoch, auc in enumerate(aucs, start=1):
                run_epoch_callback({"epoch": epoch, "member": member, "val_auc": auc})

    study = run(train, folds=2)
    assert study.trials[0].value == pytest.approx(0.75)
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.9}


def test_a_pruned_trial_stops_training(run, tmp_path):
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 2}
    run(training_with([0.8, 0.9, 0.9]), pruner=pruner)
    epochs = []

    def worse():
        for value in (0.4, 0.5, 0.6):
            epochs.append(value)
            yield value

    study = run(training_with(worse()), pruner=pruner)
    assert epochs == [0.4, 0.5]
    assert [one.state for one in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert not list((tmp_path / "trials").iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("Training diverged in epoch 2\n(frozen)."), "Training diverged in epoch 2 (frozen)."),
        (MemoryError(), "MemoryError: "),
        (None, "val_auc is not defined in any epoch on these validation images."),
    ],
)
def test_a_failed_trial_records_its_reason_and_the_next_one_runs(run, tmp_path, error, reason):
    def train(child):
        training_with([math.nan])(child)
        if error is not None:
            raise error

    with pytest.raises(type(error) if error else UserError):
        run(train)
    table = search.trial_table(run(training_with([0.5])), list(SPACE))
    assert table["state"].tolist() == ["failed", "complete"]
    assert table["reason"].fillna("").tolist() == [reason, ""]
    assert not list((tmp_path / "trials").iterdir())


def test_a_complete_study_starts_no_trial(run):
    run(training_with([0.5]), n_trials=1)
    assert len(run(lambda child: pytest.fail("a trial was started"), n_trials=1).trials) == 1


def die(folder, run):
    """Run a trial that is terminated in its second epoch."""

    def train(child):
        training_with([0.5, 0.6])(child)
        raise Terminated

    cell.execute = train
    trial.run_trial(payload(folder, run, plan(folder)))


def test_a_terminated_trial_is_retried_with_its_parameters_and_its_folder(run, current_run, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=die, args=(tmp_path, current_run))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    dead = search.open_study(plan(tmp_path)).trials[0]
    assert (dead.state, dead.intermediate_values) == (TrialState.RUNNING, {1: 0.5, 2: 0.6})
    with closing(sqlite3.connect(tmp_path / "studies.db")) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")
    folders = []

    def train(child):
        folder = Path(child.runtime_params["cell"]["folder"])
        folders.append(folder.name)
        assert (folder / "model.keras").exists() == (len(folders) == 1)
        training_with([0.7])(child)

    def run_trials(n):
        for _ in range(n):
            run(train)
            yield None

    study = search.run_search(plan(tmp_path), run_trials)
    assert search.trial_table(study, list(SPACE))["state"].tolist() == ["failed", "complete", "complete", "complete"]
    assert study.trials[1].params == dead.params
    assert study.trials[2].params != dead.params
    assert folders == ["trial_0000", "trial_0002", "trial_0003"]
    assert not list((tmp_path / "trials").iterdir())


def test_a_machine_without_the_working_directory_is_an_error(current_run):
    with pytest.raises(UserError, match=r"/gone, cannot be entered on this machine .* same folders"):
        cell.execute(replace(current_run, cwd="/gone"))
