"""One trial of a study in its own process: ``python -m cxr_pipeline.framework.processes.trial``."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over, nest
from cxr_pipeline.experiments import search
from cxr_pipeline.experiments.jobs import receive_payload
from cxr_pipeline.experiments.search import StudyPlan
from cxr_pipeline.experiments.task_run import TaskRun
from cxr_pipeline.framework.exit import clean_exit
from cxr_pipeline.framework.processes import cell
from cxr_pipeline.tracking import runs
from cxr_pipeline.training.checkpoints import Row, epoch_callback
from cxr_pipeline.training.epoch_selection import EpochSelector


def run_trial(payload: Mapping[str, Any]) -> None:
    """Run one trial, unless other processes already run all trials that the study needs.

    The payload has ``plan`` and ``run``, each the JSON form of its dataclass, and ``folder``. Any error of the trial is
    raised after it was recorded in the study.
    """
    plan, run = StudyPlan(**payload["plan"]), TaskRun(**payload["run"])
    training = run.parameters["training"]
    selector = EpochSelector.of_training(**{**training, "patience": None, "folds": plan.folds})

    def objective(trial: optuna.Trial) -> float:
        # A retry has the folder of the first attempt, and resumes its training.
        folder = Path(payload["folder"], f"trial_{search.first_attempt(trial):04d}")
        overrides = lay_over({"training": {"folds": plan.folds}}, nest(search.suggest(trial, plan.space)))
        child = run.child(f"trial {trial.number}", folder=folder, to_output="history", overrides=overrides)
        checkpoints = {"folders": {"checkpoints": str(folder / "checkpoints")}}
        try:
            value = _train(trial, replace(child, runtime_params=lay_over(child.runtime_params, checkpoints)), selector)
        except Exception as error:
            if not isinstance(error, optuna.TrialPruned):
                text = " ".join(str(error).split())[:500]
                known = isinstance(error, UserError) and text
                trial.set_user_attr("reason", text if known else f"{type(error).__name__}: {text}")
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # The models of all trials would fill the disk, and the study holds everything that is reported. Only a trial
        # that is interrupted, by a BaseException, keeps its checkpoints.
        shutil.rmtree(folder, ignore_errors=True)
        return value

    study = search.open_study(plan)
    search.fail_stale_trials(study, plan.grace_period)
    if not search.is_complete(study, plan.n_trials):
        study.optimize(objective, n_trials=1)


def _train(trial: optuna.Trial, run: TaskRun, selector: EpochSelector) -> float:
    """Train, report each epoch to the study, and return the monitored metric of the selected epoch.

    Of several networks, the epochs of the first are reported, and the result is the mean over all.
    """
    history: list[Row] = []

    def report(row: Row) -> None:
        if not history and (run_id := runs.last_run_id()) is not None:
            trial.set_user_attr("run_id", run_id)
        history.append(row)
        value = float(row[selector.monitor])
        if row["member"] == 1 and not math.isnan(value):
            trial.report(value, step=int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    with epoch_callback(report):
        cell.execute(run)
    selected = selector.select_rows(pd.DataFrame(history))[selector.monitor] if history else pd.Series([math.nan])
    value = float(selected.mean(skipna=False))
    if math.isnan(value):
        raise UserError(f"{selector.monitor} is not defined in any epoch on these validation images.")
    return value


if __name__ == "__main__":
    # Ctrl-C reaches every process of a terminal. This one ends with its parent, so that its trial is retried; an
    # interrupted trial would count as failed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with clean_exit(separator="; "):  # the parent reports the last line
        run_trial(receive_payload())
