import math
import multiprocessing
import os
import sqlite3
import time
from contextlib import closing

import pytest
from optuna.trial import TrialState
from stub_models import plan_study

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments import search

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.6, "step": 0.2},
    "model.head_units": {"low": 0, "high": 256, "step": 64},
    "training.epochs": {"low": 1, "high": 9},
    "training.loss": {"choices": ["focal", "cross_entropy"]},
    "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
}


def plan(folder, **changes):
    median = {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 1}
    return plan_study(folder, **{"space": SPACE, "n_trials": 5, "pruner": median, **changes})


def run_one(study_plan, *, fail=False):
    """Run a trial in this process; return its parameters."""
    study = search.open_study(study_plan)
    trial = study.ask()
    parameters = search.suggest(trial, study_plan.space)
    study.tell(trial, None if fail else 0.5, state=TrialState.FAIL if fail else None)
    return parameters


def numbers(study, *states):
    return [trial.number for trial in study.get_trials(states=states or search.FINISHED)]


def test_each_axis_yields_values_of_its_range_and_type(tmp_path):
    points = [run_one(plan(tmp_path)) for _ in range(12)]
    for point in points:
        assert 1e-4 <= point["training.learning_rate"] <= 1e-2
        assert round(point["model.dropout"] / 0.2, 6) in (0, 1, 2, 3)
        assert point["model.head_units"] in (0, 64, 128, 192, 256)
        assert type(point["model.head_units"]) is type(point["training.epochs"]) is int
        assert 1 <= point["training.epochs"] <= 9
    assert {point["training.loss"] for point in points} == {"focal", "cross_entropy"}
    assert {point["training.fine_tuning.cut"] for point in points} == {None, "pool4_pool"}
    assert 2 <= sum(point["training.learning_rate"] < 1e-3 for point in points) <= 10


def test_each_trial_has_its_own_seed_and_keeps_it(tmp_path):
    (tmp_path / "again").mkdir()
    here = [run_one(plan(tmp_path)) for _ in range(4)]
    there = [run_one(plan(tmp_path / "again")) for _ in range(4)]
    other = [run_one(plan(tmp_path, name="effusion-2", seed=4)) for _ in range(4)]
    assert here == there
    assert len({point["training.learning_rate"] for point in [*here, *other]}) == 8


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("no url", "no url"),
        ("postgresql://me:secret@host:port/studies", r"postgresql://me:\*\*\*@host:port/studies"),
        ("postgresql+nodriver://me:secret@host/studies", r"postgresql\+nodriver://me:\*\*\*@host/studies"),
        ("sqlite:////proc/none/studies.db", "sqlite:////proc/none/studies.db"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(storage, shown):
    message = rf"tuning.storage: {shown} cannot be used.*Expected the URL of a database"
    with pytest.raises(UserError, match=message) as caught:
        search.check_storage(storage)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_named(tmp_path):
    (tmp_path / "studies.db").write_text("no database " * 100)
    with pytest.raises(UserError, match="not a database"):
        search.open_study(plan(tmp_path))


def test_a_trial_whose_process_died_is_retried_with_its_parameters_a_few_times(tmp_path):
    study_plan = plan(tmp_path)
    study = search.open_study(study_plan)
    points = []
    for attempt in range(1 + search.MAX_RETRIES):
        trial = study.ask()
        assert search.first_attempt(trial) == 0
        points.append(search.suggest(trial, SPACE))
        search.fail_stale_trials(study, study_plan.grace_period)
        assert numbers(study, TrialState.RUNNING) == [attempt]
        with closing(sqlite3.connect(tmp_path / "studies.db")) as database, database:
            database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")
        search.fail_stale_trials(study, study_plan.grace_period)
    assert points == [points[0]] * 3
    assert numbers(study, TrialState.FAIL) == [0, 1, 2]
    assert numbers(study, TrialState.WAITING) == []


def test_a_trial_killed_before_its_first_heartbeat_is_found_by_its_age(tmp_path):
    study = search.open_study(plan(tmp_path))
    study._storage.create_new_trial(study._study_id)
    study.ask()
    search.fail_stale_trials(study, grace_period=60)
    assert numbers(study, TrialState.RUNNING) == [0, 1]
    time.sleep(1.1)
    search.fail_stale_trials(study, grace_period=1)
    assert numbers(study, TrialState.RUNNING) == [1]


class Runner:
    """Run trials in this process, some of which fail; records how many were requested."""

    def __init__(self, study_plan, failures):
        self.requested = []
        self._plan, self._failures = study_plan, failures

    def __call__(self, n):
        self.requested.append(n)
        for _, fail in zip(range(n), self._failures, strict=False):
            run_one(self._plan, fail=fail)
            yield "Training diverged." if fail else None


def test_a_search_replaces_failed_trials_and_continues_with_additional_ones(tmp_path):
    run_one(plan(tmp_path))
    runner = Runner(plan(tmp_path), iter([False, True, True, False, False, True, False]))
    assert len(numbers(search.run_search(plan(tmp_path), runner))) == 5
    assert runner.requested == [4, 2, 1]
    runner = Runner(plan(tmp_path), iter([False] * 9))
    search.run_search(plan(tmp_path), runner)
    search.run_search(plan(tmp_path, n_trials=7), runner)
    assert runner.requested == [2]


def test_a_search_in_which_every_trial_fails_is_stopped(tmp_path):
    runner = Runner(plan(tmp_path), iter([True] * 40))
    with pytest.raises(UserError, match=r"5 trials failed, the last one with: Training diverged\."):
        search.run_search(plan(tmp_path, n_trials=40), runner)
    assert len(search.open_study(plan(tmp_path)).trials) == search.MAX_FAILURES


def test_a_search_waits_for_trials_of_other_processes_and_replaces_those_that_die(tmp_path):
    study_plan = plan(tmp_path, n_trials=1)
    search.open_study(study_plan).ask()  # Its process has died.
    started = time.monotonic()
    assert numbers(search.run_search(study_plan, Runner(study_plan, iter([False])))) == [1]
    assert time.monotonic() - started > study_plan.grace_period - 1


def work(folder, start):
    """Run trials of a new study until the search is complete, then take waiting trials until there is none."""
    study_plan = plan(folder, n_trials=12)

    def objective(trial):
        search.suggest(trial, study_plan.space)
        (folder / f"ran-{trial.number}-{os.getpid()}").touch(exist_ok=False)
        time.sleep(0.01)
        return 0.5

    def run_trials(n):
        for _ in range(n):
            study = search.open_study(study_plan)
            if not search.is_complete(study, study_plan.n_trials):
                study.optimize(objective, n_trials=1)
            yield None

    start.wait()
    study = search.run_search(study_plan, run_trials)
    start.wait()
    for _ in range(20):
        study.enqueue_trial({}, user_attrs={"waited": True})
    start.wait()
    while (trial := study.ask()).user_attrs.get("waited"):
        (folder / f"took-{trial.number}-{os.getpid()}").touch()


def test_two_processes_lose_and_repeat_no_trial(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=work, args=(tmp_path, start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    study = search.open_study(plan(tmp_path, n_trials=12))
    ran = [path.name.split("-") for path in tmp_path.glob("ran-*")]
    # Both may start the last one at the same moment.
    assert len(numbers(study)) in (12, 13)
    assert sorted(int(number) for _, number, _ in ran) == numbers(study)
    assert len({process for *_, process in ran}) == 2
    rates = [trial.params["training.learning_rate"] for trial in study.get_trials(states=search.FINISHED)]
    assert len(set(rates)) == len(numbers(study))
    assert len(list(tmp_path.glob("took-*"))) == 40


def open_study(folder, direction="maximize"):
    return search.open_study(plan(folder, name=direction, direction=direction))


def add(study, value, state=TrialState.COMPLETE, **attributes):
    trial = study.ask()
    search.suggest(trial, SPACE)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    if value is not None:
        trial.report(value, step=1)
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def test_the_table_has_every_trial_that_has_ended(tmp_path):
    study = open_study(tmp_path)
    add(study, 0.9, TrialState.PRUNED)
    add(study, 0.7, run_id="7f")
    add(study, 0.4, TrialState.FAIL, reason="it diverged")
    add(study, None, TrialState.FAIL)
    study.ask()
    table = search.trial_table(study, list(SPACE))
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["state"].tolist() == ["pruned", "complete", "failed", "failed"]
    assert table["value"].fillna(-1).tolist() == [0.9, 0.7, -1, -1]
    assert table["reason"].fillna("").tolist() == ["", "", "it diverged", "its process died"]
    assert table["epochs"].tolist() == [1, 1, 1, 0]
    assert table["run_id"].fillna("").tolist() == ["", "7f", "", ""]
    assert table["training.learning_rate"].between(1e-4, 1e-2).all()


def test_the_best_trial_is_the_first_complete_one_with_the_best_value(tmp_path):
    study = open_study(tmp_path)
    assert search.best_trial(study) is None
    add(study, 0.9, TrialState.PRUNED)
    for value in (0.7, 0.8, 0.8):
        add(study, value, run_id="7f")
    parameters = study.trials[2].params
    assert search.best_trial(study) == {"number": 2, "value": 0.8, "parameters": parameters, "run_id": "7f"}
    smallest = open_study(tmp_path, "minimize")
    for value in (0.7, 0.6, 0.8):
        add(smallest, value)
    assert (search.best_trial(smallest) or {})["number"] == 1


def test_the_parameter_that_determines_the_value_is_the_most_important(tmp_path):
    study = open_study(tmp_path)
    for number in range(12):
        if number < 2:
            assert search.importance(study, SPACE, seed=1) == {}
        trial = study.ask()
        study.tell(trial, math.log(search.suggest(trial, SPACE)["training.learning_rate"]))
    shares = search.importance(study, SPACE, seed=1)
    assert set(shares) == set(SPACE)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["training.learning_rate"] > 0.8
    assert search.importance(study, SPACE, seed=1) == shares
    constant = open_study(tmp_path, "minimize")
    for _ in range(3):
        add(constant, 0.5)
    assert search.importance(constant, SPACE, seed=1) == {}
