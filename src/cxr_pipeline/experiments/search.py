"""A hyperparameter study in a database of Optuna, shared by any number of processes on any number of machines.

This module adds what ``optimize`` lacks: an exact number of trials for any number of processes, and a retry of trials
whose process died.
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
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import hide_passwords

Axis = Mapping[str, Any]

logger = logging.getLogger(__name__)

# User attribute with the number of a trial that has sent a heartbeat; a retry inherits the attributes of the dead
# trial, but not its number.
STARTED = "started"
# User attribute of a surplus trial.
SURPLUS = "surplus"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Maximum number of retries of a trial whose process dies.
MAX_RETRIES = 2
# A search is stopped when failed trials outnumber finished ones by this many.
MAX_FAILURES = 5
PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "none": optuna.pruners.NopPruner,
}


@dataclass(frozen=True)
class StudyPlan:
    """The plan of a study, the same in all its processes.

    Args:
        name: the same name in the same database is the same study.
        storage: URL of the database.
        space: dotted parameter to its axis: ``low``, ``high`` and optionally ``log`` or ``step``, integers for an
            integer; or ``choices``.
        n_trials: number of trials that end with a value or are pruned.
        pruner: its ``name``, a key of ``PRUNERS``, and its arguments.
        heartbeat: seconds between two heartbeats of a running trial.
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
    def grace_period(self) -> int:
        """Seconds without a heartbeat after which a trial counts as dead."""
        return 3 * self.heartbeat


def suggest(trial: optuna.Trial, space: Mapping[str, Axis]) -> dict[str, Any]:
    """Return a value for each dotted parameter of the space."""
    values: dict[str, Any] = {}
    for name, axis in space.items():
        if "choices" in axis:
            values[name] = trial.suggest_categorical(name, axis["choices"])
        elif isinstance(axis["low"], int) and isinstance(axis["high"], int):
            values[name] = trial.suggest_int(name, **axis)
        else:
            values[name] = trial.suggest_float(name, **axis)
    return values


class TrialSeededTPE(optuna.samplers.TPESampler):
    """A TPE sampler with its own seed for each trial.

    With one generator for the whole study, all processes would draw the same random points. The parameters of a trial
    depend on the seed, its number and the results of earlier trials.

    References:
        Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
    """

    def __init__(self, study_seed: int) -> None:
        super().__init__(seed=study_seed)
        self._study_seed = study_seed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler for the trial, and send its first heartbeat.

        Optuna's own thread sends one slightly later, so that a trial that died before would count as running forever.
        """
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        study._storage.set_trial_user_attr(trial._trial_id, STARTED, trial.number)
        seed = int(np.random.SeedSequence([self._study_seed, trial.number]).generate_state(1)[0])
        super().__init__(seed=seed)
        super().before_trial(study, trial)


def open_study(plan: StudyPlan) -> optuna.Study:
    """Open the study, or create it; `UserError` if the database cannot be used."""
    pruner = {name: value for name, value in plan.pruner.items() if name != "name"}
    with _quiet_optuna():
        return optuna.create_study(
            study_name=plan.name,
            storage=_storage(plan.storage, plan.heartbeat, plan.grace_period),
            sampler=TrialSeededTPE(plan.seed),
            pruner=PRUNERS[plan.pruner["name"]](**pruner),
            direction=plan.direction,
            load_if_exists=True,
        )


def check_storage(url: str) -> None:
    """Check that studies can be kept in a database; `UserError` if they cannot."""
    with _quiet_optuna():
        _storage(url, heartbeat=1, grace_period=3).remove_session()


def _storage(url: str, heartbeat: int, grace_period: int) -> RDBStorage:
    try:
        address = sqlalchemy.make_url(url)
        is_sqlite = address.get_backend_name() == "sqlite"
        if is_sqlite and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        storage = _create_storage(
            url,
            engine_kwargs={"connect_args": {"timeout": 120, "isolation_level": None}} if is_sqlite else {},
            heartbeat_interval=heartbeat,
            grace_period=grace_period,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
        )
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        reason: str = hide_passwords(str(error))
        raise UserError(
            f"tuning.storage: {hide_passwords(url)} cannot be used: {reason.splitlines()[0][:200]}. Expected the URL "
            "of a database whose driver is installed, such as sqlite:////data/studies.db or "
            "postgresql+psycopg://user@host/studies; null for a file of this project."
        ) from error
    if is_sqlite:
        # SQLite does not lock rows: without this, two processes could take the same waiting trial. See "Serializable
        # isolation / Savepoints / Transactional DDL" in SQLAlchemy's documentation of SQLite.
        sqlalchemy.event.listen(
            storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return storage


def _create_storage(url: str, **arguments: Any) -> RDBStorage:
    # Retried, because two processes may create the tables of a new database at once.
    for _ in range(4):
        with suppress(sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            return RDBStorage(url, **arguments)
        time.sleep(0.5)
    return RDBStorage(url, **arguments)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Hide the warning that heartbeats are experimental, and Optuna's log, which repeats the report."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def first_attempt(trial: optuna.Trial) -> int:
    """Return the number of the trial that this one retries, or its own number."""
    with _quiet_optuna():
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(
            trial.study.get_trials(deepcopy=False)[trial.number]
        )
    return trial.number if first is None else first


def count_trials(study: optuna.Study, *states: TrialState, below: int | None = None) -> int:
    """Count the trials in the given states; only those with a number below ``below``, if given."""
    trials = study.get_trials(deepcopy=False, states=states)
    return sum(below is None or trial.number < below for trial in trials)


def is_needed(study: optuna.Study, n_trials: int, *, number: int) -> bool:
    """Return whether fewer than ``n_trials`` trials before this one have finished or can still finish.

    The database assigns the numbers, so that all processes agree.
    """
    return count_trials(study, *FINISHED, TrialState.RUNNING, TrialState.WAITING, below=number) < n_trials


def fail_stale_trials(study: optuna.Study, grace_period: int) -> None:
    """Fail the trials whose process died, so that they are tried again."""
    with _quiet_optuna():
        optuna.storages.fail_stale_trials(study)
    # Optuna detects only heartbeats that have stopped, not a trial that died before the first.
    limit = datetime.now() - timedelta(seconds=grace_period)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(STARTED) != trial.number and trial.datetime_start and trial.datetime_start < limit:
            with suppress(ValueError, UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)


def run_search(plan: StudyPlan, run_trials: Callable[[int], Iterable[str | None]]) -> optuna.Study:
    """Run the missing trials of a study, together with any other processes of the study.

    Args:
        plan: plan of the study.
        run_trials: starts the given number of trials and yields, as each one ends, why it failed, or None.

    Raises:
        UserError: too many trials fail, or the database cannot be used.
    """
    study = open_study(plan)
    finished_before, failed = count_trials(study, *FINISHED), 0
    while (missing := plan.n_trials - count_trials(study, *FINISHED)) > 0:
        fail_stale_trials(study, plan.grace_period)
        elsewhere = count_trials(study, TrialState.RUNNING)
        if missing <= elsewhere:
            logger.info("Waiting for %d trials of other processes.", elsewhere)
            time.sleep(max(1.0, plan.heartbeat / 4))
            continue
        logger.info("Study %s: %d of %d trials are missing.", plan.name, missing, plan.n_trials)
        for reason in run_trials(missing - elsewhere):
            failed += reason is not None
            if failed >= MAX_FAILURES + count_trials(study, *FINISHED) - finished_before:
                raise UserError(
                    f"The search was stopped because {failed} trials failed, the last one with: {reason} Correct it "
                    "or narrow tuning.space, and run the same command again; finished trials are kept."
                )
    return study
