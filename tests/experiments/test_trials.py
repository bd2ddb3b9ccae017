import math

import pytest
from optuna.trial import TrialState

from cxr_pipeline.experiments import search
from cxr_pipeline.experiments.search import StudyPlan
from cxr_pipeline.experiments.trials import best_trial, importance, trial_table

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")

SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "training.epochs": {"low": 1, "high": 8}}


@pytest.fixture
def study(tmp_path):
    return open_study(tmp_path)


def open_study(folder, direction="maximize"):
    storage = f"sqlite:///{folder}/{direction}.db"
    return search.open_study(StudyPlan(direction, storage, direction, SPACE, 3, {"name": "none"}, seed=3))


def add(study, value, state=TrialState.COMPLETE, **attributes):
    trial = study.ask()
    search.suggest(trial, SPACE)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    if value is not None:
        trial.report(value, step=1)
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def test_the_table_has_every_finished_trial_except_surplus_ones(study):
    add(study, 0.9, TrialState.PRUNED)
    add(study, 0.7, run_id="7f")
    add(study, 0.4, TrialState.FAIL, reason="it diverged")
    add(study, None, TrialState.FAIL)
    add(study, None, TrialState.FAIL, **{search.SURPLUS: True})
    study.ask()
    table = trial_table(study, list(SPACE))
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["state"].tolist() == ["pruned", "complete", "failed", "failed"]
    assert table["value"].fillna(-1).tolist() == [0.9, 0.7, -1, -1]
    assert table["reason"].fillna("").tolist() == ["", "", "it diverged", "its process died"]
    assert table["epochs"].tolist() == [1, 1, 1, 0]
    assert table["run_id"].fillna("").tolist() == ["", "7f", "", ""]
    assert table["training.learning_rate"].between(1e-4, 1e-2).all()


def test_the_best_trial_is_the_first_complete_one_with_the_best_value(tmp_path, study):
    assert best_trial(study) is None
    add(study, 0.9, TrialState.PRUNED)
    for value in (0.7, 0.8, 0.8):
        add(study, value, run_id="7f")
    parameters = study.trials[2].params
    assert best_trial(study) == {"number": 2, "value": 0.8, "parameters": parameters, "run_id": "7f"}
    smallest = open_study(tmp_path, "minimize")
    for value in (0.7, 0.6, 0.8):
        add(smallest, value)
    assert (best_trial(smallest) or {})["number"] == 1


def test_the_parameter_that_determines_the_value_is_the_most_important(tmp_path, study):
    for number in range(12):
        assert importance(study, SPACE, seed=1) == {} or number >= 2
        trial = study.ask()
        study.tell(trial, math.log(search.suggest(trial, SPACE)["training.learning_rate"]))
    shares = importance(study, SPACE, seed=1)
    assert list(shares) == list(SPACE)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["training.learning_rate"] > 0.8
    assert importance(study, SPACE, seed=1) == shares
    constant = open_study(tmp_path, "minimize")
    for _ in range(3):
        add(constant, 0.5)
    assert importance(constant, SPACE, seed=1) == {}
