"""A month of nights that nobody watches, on phantoms: does what is in use get better, or stay as it is?

Run it with ``python benchmarks/month.py``. Images of new patients come to a hospital of phantoms day by day. Every
night ``kedro run --pipeline=effusion_retraining`` is started as cron starts it. Whenever that changes the champion, the
new one scores images that no night has ever seen. On some days something goes wrong, see ``CALENDAR``. It prints a row
for each night, and ends with status 1 and the reasons if something does not hold that must. Bad parts are large enough
to tell in one night, twice or three times ``drift.min_images``; smaller ones wait for the next part.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _hospital import SIZE, Hospital, draw_outside, negative
from _project import Project
from sklearn.metrics import recall_score, roc_auc_score

TASK = "effusion"
FIRST_PATIENTS, DAILY_PATIENTS, OUTSIDE_PATIENTS = 300, 24, 400
PARAMS = ",".join(
    (
        f"effusion.sources.phantoms.n_patients={FIRST_PATIENTS}",
        f"effusion.sources.phantoms.size={SIZE}",
        f"effusion.resolution.size={SIZE}",
        "effusion.training.epochs=15",
        "effusion.evaluation.replicates=300",
    )
)
MARGINS = {"auc": 0.1, "sensitivity": 0.25}
PARAMETERS = {
    "sources": {"daily": {"layout": "nih", "path": "daily"}},
    "retraining": {f"{name}_margin": margin for name, margin in MARGINS.items()},
}
LOCKED = 75
# In the place of an exit status: a killed job did not go on from its checkpoint, or its MLflow run was left open.
NEW_TRAINING = -1


def new_images(hospital: Hospital, day: int) -> None:
    """Images of new patients come."""
    hospital.receive(day, n_patients=DAILY_PATIENTS)


def nothing(hospital: Hospital, day: int) -> None:
    """Nothing comes."""


def images_of_another_kind(hospital: Hospital, day: int) -> None:
    """A console sends negatives."""
    hospital.receive(day, n_patients=2 * DAILY_PATIENTS, change=negative)


def yesterday_is_taken_away(hospital: Hospital, day: int) -> None:
    """Somebody has read the message, and removed yesterday's images."""
    hospital.take_away(day - 1)
    new_images(hospital, day)


def known_labels_are_wrong(hospital: Hospital, day: int) -> None:
    """An export has mixed up the labels of all images but today's."""
    new_images(hospital, day)
    hospital.write_labels(wrong=lambda came: came != day)


def new_labels_are_wrong(hospital: Hospital, day: int) -> None:
    """An export has mixed up the labels of today's images."""
    hospital.receive(day, n_patients=3 * DAILY_PATIENTS)
    hospital.write_labels(wrong=lambda came: came == day)


def job(project: Project) -> list[int]:
    """The job runs to its end."""
    return [project.run("retraining")]


def killed_job(project: Project) -> list[int]:
    """The job is killed in the middle of a training, and started again; the training must go on where it was."""
    process = project.start("retraining")
    while process.poll() is None and not project.in_training():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    statuses = [process.wait(), project.run("retraining")]
    return statuses if project.went_on() else [*statuses, NEW_TRAINING]


def two_jobs(project: Project) -> list[int]:
    """Two jobs start one after the other; the statuses of the first and the second."""
    first = project.start("retraining")
    while first.poll() is None and not project.locked():
        time.sleep(0.02)
    second = project.run("retraining")
    return [first.wait(), second]


@dataclass(frozen=True)
class Day:
    """What comes, what is started at night, and how that must end.

    Args:
        comes: changes the hospital.
        night: starts jobs.
        statuses: of the jobs.
        stopped: whether nothing may be trained, and the champion must stay.
    """

    comes: Callable[[Hospital, int], None] = new_images
    night: Callable[[Project], list[int]] = job
    statuses: tuple[int, ...] = (0,)
    stopped: bool = False


WEEKEND = Day(nothing)
CALENDAR = {
    **{day: WEEKEND for day in range(1, 32) if day % 7 in (6, 0)},
    4: Day(nothing),
    9: Day(images_of_another_kind, statuses=(1,), stopped=True),
    10: Day(yesterday_is_taken_away),
    11: Day(known_labels_are_wrong, statuses=(1,), stopped=True),
    17: Day(new_labels_are_wrong, statuses=(1,), stopped=True),
    22: Day(night=killed_job, statuses=(-signal.SIGKILL, 0)),
    24: Day(night=two_jobs, statuses=(0, LOCKED)),
}


@dataclass
class Month:
    """What was seen so far.

    Args:
        project: where the jobs run.
        hospital: what they learn from.
        outside: folder of the images that no night sees.
        shows: whether each of these shows an effusion.
    """

    project: Project
    hospital: Hospital
    outside: Path
    shows: "pd.Series[bool]"
    champion: int | None = None
    n_records: int = 0
    splits: dict[tuple[str, str], str] = field(default_factory=dict)
    measured: dict[int, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def live(self, number: int, day: Day) -> list[str]:
        """Let a day and its night pass; a row for the table."""
        day.comes(self.hospital, number)
        started = time.monotonic()
        statuses = day.night(self.project)
        seconds = time.monotonic() - started
        self._must(tuple(statuses) == day.statuses, number, f"exit statuses {statuses}, expected {day.statuses}")
        records = self._look_at_records(number, day)
        self._look_at_ledger(number)
        figures = self._look_at_champion(number, records)
        what = (day.comes.__doc__ or "") + ("" if day.night is job else f" {(day.night.__doc__ or '').split(';')[0]}")
        said = ", ".join(record["decision"] for record in records) or "nothing new"
        return [str(number), what, str(statuses), said, str(self.champion), figures, f"{seconds:.0f} s"]

    def _must(self, holds: bool, day: int, otherwise: str) -> None:
        if not holds:
            self.problems.append(f"Night {day}: {otherwise}.")

    def _look_at_records(self, number: int, day: Day) -> list[dict[str, Any]]:
        records = self.project.decisions()
        new, self.n_records = records[self.n_records :], len(records)
        expected = 0 if day.comes is nothing else 1
        self._must(len(new) == expected, number, f"{len(new)} new decision records, expected {expected}")
        said = [record["decision"] for record in new]
        self._must((said == ["stopped"]) == day.stopped, number, f"decisions {said}, expected to stop: {day.stopped}")
        return new

    def _look_at_ledger(self, number: int) -> None:
        ledger = self.project.ledger()
        now = dict(zip(zip(ledger["source"], ledger["patient_id"], strict=True), ledger["split"], strict=True))
        moved = [patient for patient, split in now.items() if self.splits.get(patient, split) != split]
        several = ledger.groupby(["source", "patient_id"])["split"].nunique().gt(1).sum()
        self._must(not moved and not several, number, f"{len(moved)} patients have moved, {several} are in two splits")
        self.splits |= now

    def _look_at_champion(self, number: int, records: list[dict[str, Any]]) -> str:
        before, self.champion = self.champion, self.project.champion()
        promoted = [record["challenger"]["version"] for record in records if record["decision"] == "promoted"]
        expected = promoted[-1] if promoted else before
        self._must(self.champion == expected, number, f"champion {self.champion}, expected {expected}")
        if self.champion == before or self.champion is None:
            return ""
        if self.project.run("scoring", f"{TASK}.scoring.folder={self.outside}"):
            raise SystemExit(f"the champion could not score images; see {self.project.folder / 'printed.txt'}")
        judged = self.project.predictions().loc[self.shows.index]
        found = {
            "auc": float(roc_auc_score(self.shows, judged["probability"])),
            "sensitivity": float(recall_score(self.shows, judged["decision"] == TASK)),
            "specificity": float(recall_score(~self.shows, judged["decision"] != TASK)),
        }
        for name, margin in MARGINS.items():
            best = max((figures[name] for figures in self.measured.values()), default=-np.inf)
            lost = best - found[name]
            self._must(lost <= margin, number, f"{name} outside is {lost:.3f} below the best champion, over {margin}")
        self.measured[self.champion] = found
        return ", ".join(f"{name} {figure:.3f}" for name, figure in found.items())


def main() -> None:
    """Let the month pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="an empty place, which is kept; else a temporary one")
    arguments = parser.parse_args()
    print("Drawn images: these figures say nothing about patients.")
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.folder or Path(temporary)
        project = Project.make(place / "project", task=TASK, params=PARAMS, parameters=PARAMETERS)
        shows = draw_outside(place / "outside", OUTSIDE_PATIENTS)
        month = Month(project, Hospital(project.data / "01_raw" / "daily"), place / "outside", shows)
        for number in range(1, arguments.days + 1):
            print(" | ".join(month.live(number, CALENDAR.get(number, Day()))), flush=True)
    champions = list(month.measured.values())
    gained = ", ".join(f"{name} {champions[-1][name] - figure:+.3f}" for name, figure in champions[0].items())
    print(f"{month.n_records} decisions, {len(champions)} champions; from the first to the last {gained}.")
    sys.exit("\n".join(month.problems) or None)


if __name__ == "__main__":
    main()
