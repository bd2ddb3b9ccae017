"""What a study found: its trials as a table, the best of them, and which parameters mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
COLUMNS = ("number", "state", "value", "epochs", "seconds", "run_id", "reason")


def trial_table(study: optuna.Study, parameters: Sequence[str]) -> pd.DataFrame:
    """Every trial that ended, in the order in which they were asked.

    Args:
        study: of one objective.
        parameters: dotted names, a column each.

    Returns:
        ``number``, ``state`` (``complete``, ``pruned`` or ``failed``), ``value`` (of a pruned trial the last that it
        reported, of a failed one NaN), the parameters, ``epochs``, ``seconds``, ``run_id``, ``reason`` (of a failure).
        A trial that gave its place back is left out.
    """
    ended = study.get_trials(deepcopy=False, states=tuple(STATES))
    rows = [_row(trial, parameters) for trial in ended if "no_place" not in trial.user_attrs]
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
    """``number``, ``value``, ``parameters`` by dotted name and ``run_id`` of the best trial; None without one.

    Of equal ones it is the first. A pruned trial is never the best: it did not come to its last epoch.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return None
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    best = min(complete, key=lambda trial: (sign * _value(trial), trial.number))
    return {
        "number": best.number,
        "value": _value(best),
        "parameters": dict(best.params),
        "run_id": best.user_attrs.get("run_id"),
    }


def importance(study: optuna.Study, space: Mapping[str, Any], *, seed: int) -> dict[str, float]:
    """Share of the value's variance that each parameter explains, by fANOVA (Hutter et al., 2014).

    Args:
        study: with trials that differ.
        space: dotted names of the parameters.
        seed: of the random forest.

    Returns:
        Shares that sum to 1, the largest first; empty where fewer than two complete trials differ in their value
        and in a parameter.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [name for name in space if len({trial.params.get(name) for trial in complete}) > 1]
    if not varied or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {name: float(share) for name, share in shares.items()}


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
