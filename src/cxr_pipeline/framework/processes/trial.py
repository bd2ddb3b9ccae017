"""One trial of a study, as a process of its own: ``python -m cxr_pipeline.framework.processes.trial``."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import nest
from cxr_pipeline.experiments import search
from cxr_pipeline.experiments.cells import Cell
from cxr_pipeline.experiments.search import StudyPlan
from cxr_pipeline.training.callbacks import epoch_callback
from cxr_pipeline.training.checkpoints import Row
from cxr_pipeline.training.epoch_selection import EpochSelector


class NoPlace(Exception):
    """The study has its trials without this one."""


@dataclass(frozen=True)
class Objective:
    """What a point of the search space is worth: the monitored metric of the epoch that is kept.

    Args:
        plan: of the study.
        cell: the task's run, without overrides; each trial has a folder below the cell's.
        choice: of the epoch.
        run_cell: trains, and tells the listeners of each epoch.
        run_id: of the MLflow run in which the training is, or None.
    """

    plan: StudyPlan
    cell: Cell
    choice: EpochSelector
    run_cell: Callable[[Cell], object]
    run_id: Callable[[], str | None]

    def __call__(self, trial: optuna.Trial) -> float:
        """Run a trial.

        Raises:
            NoPlace: others run all trials that are wanted.
            optuna.TrialPruned: it does worse than the trials before it.
            UserError: the training fails, or the metric is not defined on these validation images.
        """
        if not search.has_place(trial.study, self.plan.n_trials, number=trial.number):
            trial.set_user_attr("no_place", True)
            raise NoPlace
        cell = self._cell(trial)
        rows: list[Row] = []
        try:
            with epoch_callback(lambda row: self._hear(trial, rows, row)):
                self.run_cell(cell)
            return self._value(rows)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("reason", reason(error))
            raise
        finally:
            # Thirty models that nobody asks for would fill the disk; what is wanted of a trial is in the study.
            shutil.rmtree(cell.folder, ignore_errors=True)

    def _cell(self, trial: optuna.Trial) -> Cell:
        """The trial's run. One that is tried again has the folder of the first attempt, and goes on from there."""
        folder = Path(self.cell.folder, f"trial_{trial.user_attrs.get('retry_of', trial.number):04d}")
        return replace(
            self.cell,
            name=f"trial {trial.number}",
            folder=str(folder),
            checkpoints=str(folder / "checkpoints"),
            overrides=nest(search.suggest(trial, self.plan.space)),
        )

    def _hear(self, trial: optuna.Trial, rows: list[Row], row: Row) -> None:
        if not rows and (run_id := self.run_id()) is not None:
            trial.set_user_attr("run_id", run_id)
        rows.append(row)
        value = float(row[self.choice.monitor])
        if not math.isnan(value):
            trial.report(value, step=int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    def _value(self, rows: list[Row]) -> float:
        value = float(rows[self.choice.select(rows)][self.choice.monitor]) if rows else math.nan
        if math.isnan(value):
            raise UserError(f"{self.choice.monitor} is not defined in any epoch on these validation images.")
        return value


def reason(error: BaseException) -> str:
    """Why a trial failed, in a line."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, UserError) and text else f"{type(error).__name__}: {text}"


def run_trial(payload: Mapping[str, Any], run_cell: Callable[[Cell], object], run_id: Callable[[], str | None]) -> None:
    """Ask for a point, run it and tell the study; do nothing if the study has all trials that it wants.

    Args:
        payload: ``plan``, ``cell`` and ``choice``, each the JSON form of its dataclass.
        run_cell: as of `Objective`.
        run_id: as of `Objective`.

    Raises:
        Exception: whatever made the trial fail, once it is told.
    """
    plan, choice = StudyPlan(**payload["plan"]), EpochSelector(**payload["choice"])
    study = search.open_study(plan)
    search.bury_the_dead(study, plan.grace)
    if search.count(study, *search.FINISHED, optuna.trial.TrialState.RUNNING) < plan.n_trials:
        objective = Objective(plan, Cell(**payload["cell"]), choice, run_cell, run_id)
        study.optimize(objective, n_trials=1, catch=(NoPlace,))


def main() -> None:
    """Run the trial that the standard input describes; exit status 1 and the reason if it fails."""
    from cxr_pipeline import tracking
    from cxr_pipeline.experiments import jobs
    from cxr_pipeline.framework.exit import clean_exit
    from cxr_pipeline.framework.processes import cell

    # Ctrl-C reaches every process of a terminal. This one ends with its parent, which leaves its trial to be tried
    # again; an interrupted trial would count as failed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with clean_exit(separator="; "):  # the parent reports the last line
        run_trial(jobs.receive(), cell.run_cell, tracking.last_run_id)


if __name__ == "__main__":
    main()
