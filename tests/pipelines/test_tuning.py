"""The tuning stage through Kedro's runner, with stubs for training."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from shipped import parameters_of
from stage_runs import run_stage

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import jobs
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.experiments.task_run import CURRENT_RUN
from cxr_pipeline.framework.config import Folders, Parallel, Task, Training, Tuning
from cxr_pipeline.framework.datasets.files import FiguresDataset, FileDataset
from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.framework.processes import cell, trial
from cxr_pipeline.pipelines.tuning import create_pipeline, plan_study
from cxr_pipeline.tracking import runs
from cxr_pipeline.training.callbacks import run_epoch_callback

SPACE = {
    "model.dropout": {"low": 0.0, "high": 0.5},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
REPORT = {"data_digest": "d" * 64, "phantom": True, "n_images": 3}
SPLITS = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "validation", "test"]})


@pytest.fixture(scope="module")
def parameters():
    """The parameters of a task in the demo environment."""
    return lay_over(parameters_of(env="demo"), {"tuning": {"n_trials": 4, "space": None}})


@pytest.fixture
def task_run(current_run, parameters):
    given = {"raw": "/data", "effusion": {"training": {"epochs": 3}, "tuning": {"n_trials": 4}}}
    return replace(current_run, runtime_params=given, parameters=parameters)


def blocks(run, **tuning):
    return {
        "tuning": Tuning(**{**run.parameters["tuning"], "space": SPACE, **tuning}),
        "folders": Folders(**{name: Path(run.project, name) for name in Folders.model_fields}),
    }


def fake_jobs(monkeypatch, value=None):
    """Run each job in this process, with a training whose metric is its learning rate."""
    started = []

    def execute(run):
        metric = run.runtime_params["effusion"]["training"]["learning_rate"] if value is None else value
        run_epoch_callback({"phase": "training", "epoch": 1, "val_auc": metric})

    def run_jobs(given, *, width, **parallel):
        assert parallel == {"scheduler": None, "workers": 2, "memory_gb": 4.0}
        for job in given:
            assert width == job.payload["plan"]["n_trials"]
            started.append(job)
            trial.run_trial(job.payload)
            yield Outcome(job.name, None, seconds=1.0, peak_memory_mb=1.0)

    monkeypatch.setattr(cell, "execute", execute)
    monkeypatch.setattr(runs, "last_run_id", lambda: "child")
    monkeypatch.setattr(jobs, "run_jobs", run_jobs)
    return started


def search(run, **tuning):
    """Run the stage with its outputs in files."""
    parameters = {**blocks(run, **tuning), "task": Task(**run.parameters["task"])}
    parameters |= {"parallel": Parallel(scheduler=None, workers=2, memory_gb=4)}
    parameters |= {"training": Training(**run.parameters["training"])}
    inputs = {"enhanced_images": {}, "data_report": REPORT, "splits": SPLITS, CURRENT_RUN: run}
    reports = Path(run.project, "reports")
    outputs = {
        "tuning_trials": TableDataset(filepath=str(reports / "trials.csv"), text_columns=["state", "run_id", "reason"]),
        "tuning_study": FileDataset(filepath=str(reports / "study.json")),
        "best_parameters": FileDataset(filepath=str(reports / "best_parameters.yml")),
        "tuning_figures": FiguresDataset(filepath=str(reports / "figures")),
        "tuning_report": FileDataset(filepath=str(reports / "tuning.html")),
    }
    inputs |= {f"params:{name}": value for name, value in parameters.items()}
    return run_stage(create_pipeline(), inputs, outputs)


def test_a_search_writes_trials_best_parameters_figures_and_a_page(task_run, monkeypatch):
    started = fake_jobs(monkeypatch)
    found = search(task_run)
    trials, study = found["tuning_trials"], found["tuning_study"]
    best = trials.loc[trials["training.learning_rate"].idxmax()]
    assert (len(started), len(trials)) == (4, 4)
    assert (study["best"]["number"], study["best"]["value"]) == (best["number"], best["training.learning_rate"])
    assert trials["run_id"].tolist() == ["child"] * 4
    assert (study["n_trials"], study["phantom"]) == (4, True)
    training = {"epochs": 3, "learning_rate": best["training.learning_rate"]}
    best_parameters = {"raw": "/data", "effusion": {"training": training, "model": {"dropout": best["model.dropout"]}}}
    section = yaml.safe_load(found["best_parameters"])["run"]
    assert section == {"pipelines": "effusion", "env": "demo", "params": best_parameters}
    assert set(found["tuning_figures"]) == {"tuning_history", "tuning_importance", "tuning_slices"}
    assert "PHANTOM IMAGES" in found["tuning_report"]
    assert search(task_run)["tuning_trials"].equals(trials)
    assert len(started) == 4, "A finished search is not repeated."


def test_a_search_whose_trials_are_all_pruned_fails(task_run, monkeypatch):
    fake_jobs(monkeypatch)
    monkeypatch.setattr("cxr_pipeline.experiments.search.best_trial", lambda study: None)
    with pytest.raises(UserError, match=r"All 4 trials of effusion were pruned.*effusion\.tuning\.pruner"):
        search(task_run)


def test_the_name_of_a_study_depends_on_data_space_and_training(task_run):
    def name(report=REPORT, splits=SPLITS, run=task_run, **tuning):
        return plan_study(report, splits, run, **blocks(run, **tuning)).name

    def changed(block):
        return replace(task_run, parameters=lay_over(task_run.parameters, block))

    same = name()
    assert same.startswith("effusion-")
    assert name(splits=SPLITS.iloc[::-1]) == same
    assert name(splits=SPLITS.iloc[:2]) == same  # Test images are not used.
    assert name(splits=pd.concat([SPLITS, SPLITS.replace("a", "gone")])) == same
    assert name(n_trials=99, seed=99, storage="sqlite:///x.db", pruner={"name": "none"}) == same
    assert name(run=changed({"model": {"dropout": 0.4}})) == same  # It is searched over.
    idle = {"thresholds": {"calibration": "none"}, "evaluation": {"replicates": 9}, "resolution": {"workers": 3}}
    assert name(run=changed(idle)) == same
    others = [
        name(report={**REPORT, "data_digest": "e" * 64}),
        name(splits=SPLITS.replace("train", "validation")),
        name(space={**SPACE, "model.dropout": {"low": 0.0, "high": 0.4}}),
        name(run=changed({"training": {"epochs": 7}})),
        name(run=changed({"morphology": {"steps": [{"operation": "clahe"}]}})),
    ]
    assert len({same, *others}) == 6


def test_a_study_is_stored_in_the_project_or_in_the_given_database(task_run):
    study = plan_study(REPORT, SPLITS, task_run, **blocks(task_run))
    assert (study.storage, study.direction) == (f"sqlite:///{task_run.project}/outputs/studies.db", "maximize")
    loss = replace(task_run, parameters=lay_over(task_run.parameters, {"training": {"monitor": "val_loss"}}))
    study = plan_study(REPORT, SPLITS, loss, **blocks(loss, storage="postgresql://host/studies"))
    assert (study.storage, study.direction) == ("postgresql://host/studies", "minimize")
