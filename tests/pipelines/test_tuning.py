"""The studies of the tuning stage; a whole search runs in tests/integration."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import search
from cxr_pipeline.framework.config import Folders, Training, Tuning
from cxr_pipeline.pipelines.tuning import plan_study, search_parameters

SPACE = {"model.dropout": {"low": 0.0, "high": 0.5}, "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
REPORT = {"data_digest": "d" * 64, "phantom": True, "n_images": 3}
SPLITS = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "validation", "test"]})


@pytest.fixture
def task_run(current_run):
    """A run of the tuning of a task in the demo environment."""
    parameters = lay_over(parameters_of(env="demo"), {"tuning": {"n_trials": 4, "space": None}})
    given = {"raw": "/data", "effusion": {"training": {"epochs": 3}, "tuning": {"n_trials": 4}}}
    return replace(current_run, runtime_params=given, parameters=parameters)


def blocks(run, **tuning):
    return {
        "tuning": Tuning(**{**run.parameters["tuning"], "space": SPACE, **tuning}),
        "folders": Folders(**{name: Path(run.project, name) for name in Folders.model_fields}),
    }


def test_a_search_whose_trials_are_all_pruned_fails(task_run, monkeypatch):
    monkeypatch.setattr(search, "run_search", lambda plan, run_trials: None)
    monkeypatch.setattr(search, "best_trial", lambda study: None)
    training = Training(**task_run.parameters["training"])
    with pytest.raises(UserError, match=r"All 4 trials of effusion were pruned.*effusion\.tuning\.pruner"):
        search_parameters({}, REPORT, SPLITS, task_run, training, parallel=None, **blocks(task_run))


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
