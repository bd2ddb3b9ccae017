"""A hyperparameter study in a database of Optuna, shared by any number of processes on any number of machines.

Trials whose process died are tried again. The results are a table of the trials, the best one, and the importance of
the parameters.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
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
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Maximum number of retries of a trial whose process dies.
MAX_RETRIES = 2
# A search is stopped when failed trials outnumber finished ones by this many.
MAX_FAILURES = 5
PRUNERS = {"median": optuna.pruners.MedianPruner, "none": optuna.pruners.NopPruner}
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
COLUMNS = ("number", "state", "value", "epochs", "seconds", "run_id", "reason")


@dataclass(frozen=True)
class StudyPlan:
    """The plan of a study, the same in all its processes.

    Args:
        name: the same name in the same database is the same study.
        space: dotted parameter to its axis: ``low``, ``high`` and optionally ``log`` or ``step``, integers for an
            integer; or ``choices``.
        n_trials: number of trials that end with a value or are pruned; a few more if several runs share the study.
        folds: ``training.folds`` of each trial.
        pruner: its ``name``, a key of ``PRUNERS``, and its arguments.
        heartbeat: seconds between two heartbeats of a running trial.
    """

    name: str
    storage: str
    direction: Literal["maximize", "minimize"]
    space: Mapping[str, Axis]
    n_trials: int
    folds: int
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

    With one generator for the whole study, all processes would draw the same random points.

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


def count_trials(study: optuna.Study, *states: TrialState) -> int:
    """Count the trials of a study in the given states."""
    return len(study.get_trials(deepcopy=False, states=states))


def is_complete(study: optuna.Study, n_trials: int) -> bool:
    """Return whether ``n_trials`` trials have finished or are running."""
    return count_trials(study, *FINISHED, TrialState.RUNNING) >= n_trials


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

    ``run_trials`` starts the given number of trials and yields, as each one ends, why it failed, or None. `UserError`
    is raised if too many trials fail, or if the database cannot be used.
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


def trial_table(study: optuna.Study, parameters: Sequence[str]) -> pd.DataFrame:
    """Return a row for each trial that has ended, in the order of their numbers.

    Columns are ``number``, ``state`` (``complete``, ``pruned`` or ``failed``), ``value`` (the last reported one of a
    pruned trial, NaN for a failed one), the dotted ``parameters``, ``epochs``, ``seconds``, ``run_id`` and ``reason``
    of a failure.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False, states=tuple(STATES)):
        failed = trial.state == TrialState.FAIL
        row = {
            "number": trial.number,
            "state": STATES[trial.state],
            "value": None if failed else trial.value,
            "epochs": len(trial.intermediate_values),
            "seconds": trial.duration.total_seconds() if trial.duration is not None else None,
            "run_id": trial.user_attrs.get("run_id"),
            "reason": trial.user_attrs.get("reason", "its process died") if failed else None,
        }
        rows.append(row | trial.params)
    return pd.DataFrame(rows, columns=[*COLUMNS[:3], *parameters, *COLUMNS[3:]])


def best_trial(study: optuna.Study) -> dict[str, Any] | None:
    """Return ``number``, ``value``, ``parameters`` and ``run_id`` of the best complete trial, the first of equals."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return None
    # Not study.best_trial, which returns any of several equal trials.
    select = min if study.direction == optuna.study.StudyDirection.MINIMIZE else max
    best = select(complete, key=attrgetter("value"))
    return {
        "number": best.number,
        "value": best.value,
        "parameters": dict(best.params),
        "run_id": best.user_attrs.get("run_id"),
    }


def importance(study: optuna.Study, space: Mapping[str, Any], *, seed: int) -> dict[str, float]:
    """Return the share of the variance of the value that each parameter explains, by fANOVA.

    The shares sum to 1, the largest first. There are none if fewer than two complete trials differ in their value and
    in a parameter.

    References:
        Hutter et al., "An efficient approach for assessing hyperparameter importance", ICML 2014.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [name for name in space if len({trial.params.get(name) for trial in complete}) > 1]
    if not varied or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {name: float(share) for name, share in shares.items()}
