"""A hyperparameter study that any number of processes, on any number of machines, work on at once.

Optuna keeps the study in a database; this module adds what its ask-and-tell loop leaves open: just so many trials
whatever the number of processes, and a place that a dead process gives back.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import hide_passwords

Axis = Mapping[str, Any]

logger = logging.getLogger(__name__)

# Mark of a trial that has given a sign of life.
BEGUN = "begun"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# How often a trial is begun whose process dies each time.
ATTEMPTS = 3
# By so many may failed trials outnumber the finished ones before the search is given up.
FAILURES = 5
PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "none": optuna.pruners.NopPruner,
}


@dataclass(frozen=True)
class StudyPlan:
    """What all processes of a study agree on.

    Args:
        name: of the study; the same name in the same database is the same study.
        storage: URL of the database.
        direction: ``maximize`` or ``minimize``.
        space: dotted parameter to its axis: ``low``, ``high`` and perhaps ``log`` or ``step``, integers for an
            integer; or ``choices``.
        n_trials: trials that end with a value or are pruned.
        pruner: its ``name`` (of `PRUNERS`) and its arguments as Optuna calls them.
        seed: of the sampler.
        heartbeat: seconds between two signs of life of a running trial; after three without one it is dead.
    """

    name: str
    storage: str
    direction: Literal["maximize", "minimize"]
    space: Mapping[str, Axis]
    n_trials: int
    pruner: Mapping[str, Any]
    seed: int
    heartbeat: int = 20

    @property
    def grace(self) -> int:
        """Seconds without a sign of life after which a trial is dead."""
        return 3 * self.heartbeat


def suggest(trial: optuna.Trial, space: Mapping[str, Axis]) -> dict[str, Any]:
    """Ask for a value of each parameter of the space; the result has dotted names."""
    return {name: _suggest(trial, name, dict(axis)) for name, axis in space.items()}


def _suggest(trial: optuna.Trial, name: str, axis: dict[str, Any]) -> Any:
    if "choices" in axis:
        return trial.suggest_categorical(name, axis["choices"])
    if isinstance(axis["low"], int) and isinstance(axis["high"], int):
        return trial.suggest_int(name, **{"step": 1, **axis})
    return trial.suggest_float(name, **axis)


class TrialSeededTPE(optuna.samplers.BaseSampler):
    """TPE (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011), seeded for each trial anew.

    One generator for a whole study would make every process ask the same random points. What a trial is given
    depends on the seed, its number and what the trials before it found.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tpe = optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start from the trial's own seed, and give the first sign of life.

        Optuna's thread gives its first one a little later, and would never miss a trial that dies before it.
        """
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        study._storage.set_trial_user_attr(trial._trial_id, BEGUN, True)
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        self._tpe = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """As TPE does."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """As TPE does."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: Any) -> Any:
        """As TPE does."""
        return self._tpe.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """As TPE does."""
        self._tpe.after_trial(study, trial, state, values)


def open_study(plan: StudyPlan) -> optuna.Study:
    """Open the study, or create it.

    Raises:
        UserError: the database cannot be used.
    """
    pruner = {name: value for name, value in plan.pruner.items() if name != "name"}
    with _quietly():
        return optuna.create_study(
            study_name=plan.name,
            storage=_storage(plan.storage, plan.heartbeat, plan.grace),
            sampler=TrialSeededTPE(plan.seed),
            pruner=PRUNERS[plan.pruner["name"]](**pruner),
            direction=plan.direction,
            load_if_exists=True,
        )


def check_storage(url: str) -> None:
    """Make sure that studies can be kept at a URL.

    Raises:
        UserError: they cannot.
    """
    with _quietly():
        _storage(url, heartbeat=1, grace=3).remove_session()


def _storage(url: str, heartbeat: int, grace: int) -> optuna.storages.RDBStorage:
    try:
        address = sqlalchemy.make_url(url)
        file = address.get_backend_name() == "sqlite"
        if file and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        storage = _created(
            url,
            engine_kwargs={"connect_args": {"timeout": 120, "isolation_level": None}} if file else {},
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=_queue_again,
        )
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        why: str = hide_passwords(str(error))
        raise UserError(
            f"No study can be kept at {hide_passwords(url)} (tuning.storage): {why.splitlines()[0][:200]}. "
            "Expected the URL of a database, such as sqlite:////data/studies.db or "
            "postgresql+psycopg://user@host/studies, with its driver installed; null for a file of this project."
        ) from error
    if file:
        # SQLite has no locks on rows: without this two processes can both take a trial that waits.
        sqlalchemy.event.listen(storage.engine, "begin", lambda opened: opened.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _created(url: str, **arguments: Any) -> optuna.storages.RDBStorage:
    """The storage; tried again, because two processes may create the tables of a new database at once."""
    for _ in range(4):
        with suppress(sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            return optuna.storages.RDBStorage(url, **arguments)
        time.sleep(0.5)
    return optuna.storages.RDBStorage(url, **arguments)


def _queue_again(study: optuna.Study, dead: FrozenTrial) -> None:
    """Let the point of a trial whose process died be tried again."""
    attempt = int(dead.user_attrs.get("attempt", 1))
    if attempt < ATTEMPTS:
        logger.info("The process of trial %d died; its parameters are tried again.", dead.number)
        first = dead.user_attrs.get("retry_of", dead.number)
        study.enqueue_trial(dead.params, user_attrs={"attempt": attempt + 1, "retry_of": first})


@contextmanager
def _quietly() -> Iterator[None]:
    """Heartbeats are marked as experimental, and Optuna's log repeats what the report says."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def count(study: optuna.Study, *states: TrialState, below: int | None = None) -> int:
    """How many trials are in one of these states, of those with a number below ``below``."""
    trials = study.get_trials(deepcopy=False, states=states)
    return sum(below is None or trial.number < below for trial in trials)


def has_place(study: optuna.Study, n_trials: int, *, number: int) -> bool:
    """Whether a trial is one of the ``n_trials`` that the study wants.

    Numbers are given out by the database, so that all processes agree: a trial has a place if fewer than
    ``n_trials`` before it have one. So no more can ever finish, whoever runs them.
    """
    return count(study, *FINISHED, TrialState.RUNNING, TrialState.WAITING, below=number) < n_trials


def bury_the_dead(study: optuna.Study, grace: int) -> None:
    """Fail the trials whose process is gone, so that they are tried again.

    Optuna sees those that stop giving signs of life; one that was killed before the first is known by its age.
    """
    with _quietly():
        optuna.storages.fail_stale_trials(study)
    limit = datetime.now() - timedelta(seconds=grace)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if BEGUN not in trial.user_attrs and trial.datetime_start and trial.datetime_start < limit:
            with suppress(ValueError, UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)


def run_search(plan: StudyPlan, run_trials: Callable[[int], Iterable[str | None]]) -> optuna.Study:
    """Run what is missing until the study has its trials, together with whoever else works on it.

    Args:
        plan: of the study.
        run_trials: starts so many processes of trials and gives, as each ends, why it failed, or None.

    Returns:
        The study, with ``plan.n_trials`` finished trials.

    Raises:
        UserError: trial after trial fails, or the database cannot be used.
    """
    study = open_study(plan)
    finished_before, failed = count(study, *FINISHED), 0
    while (missing := plan.n_trials - count(study, *FINISHED)) > 0:
        bury_the_dead(study, plan.grace)
        elsewhere = count(study, TrialState.RUNNING)
        if missing <= elsewhere:
            logger.info("Waiting for %d trials that other processes run.", elsewhere)
            time.sleep(max(1.0, plan.heartbeat / 4))
            continue
        logger.info("Study %s: %d of %d trials are missing.", plan.name, missing, plan.n_trials)
        for reason in run_trials(missing - elsewhere):
            failed += reason is not None
            if failed >= FAILURES + count(study, *FINISHED) - finished_before:
                raise UserError(
                    f"The search is given up, because {failed} trials failed, the last one with: {reason} Mend that or "
                    "narrow tuning.space, and run the same command again; finished trials are kept."
                )
    return study
