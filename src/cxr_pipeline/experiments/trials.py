"""The results of a study: a table of its trials, the best one, and the importance of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cxr_pipeline.experiments.search import SURPLUS

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
COLUMNS = ("number", "state", "value", "epochs", "seconds", "run_id", "reason")


def trial_table(study: optuna.Study, parameters: Sequence[str]) -> pd.DataFrame:
    """Return a row for each trial that has ended, in the order of their numbers, without surplus trials.

    Columns are ``number``, ``state`` (``complete``, ``pruned`` or ``failed``), ``value`` (the last reported one of a
    pruned trial, NaN for a failed one), the dotted ``parameters``, ``epochs``, ``seconds``, ``run_id`` and ``reason``
    of a failure.
    """
    ended = study.get_trials(deepcopy=False, states=tuple(STATES))
    rows = [_row(trial, parameters) for trial in ended if SURPLUS not in trial.user_attrs]
    return pd.DataFrame(rows, columns=[*COLUMNS[:3], *parameters, *COLUMNS[3:]])


def _row(trial: FrozenTrial, parameters: Sequence[str]) -> dict[str, Any]:
    failed = trial.state == TrialState.FAIL
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        "value": None if failed else trial.value,
        **{name: trial.params.get(name) for name in parameters},
        "epochs": len(trial.intermediate_values),
        "seconds": trial.duration.total_seconds() if trial.duration is not None else None,
        "run_id": trial.user_attrs.get("run_id"),
        "reason": trial.user_attrs.get("reason", "its process died") if failed else None,
    }


def best_trial(study: optuna.Study) -> dict[str, Any] | None:
    """Return ``number``, ``value``, ``parameters`` and ``run_id`` of the best complete trial, the first of equals."""
    # Pruned trials did not reach their last epoch.
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
