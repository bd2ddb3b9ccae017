"""Simulate a month of unattended nights on phantoms: does the champion improve, or at least not degrade?

Run it with ``python benchmarks/month.py``. Images of new patients arrive at a simulated hospital day by day. Every
night ``kedro run --pipeline=effusion_retraining`` runs as cron would start it. Whenever that changes the champion, the
new one scores images that were never used before. On some days something goes wrong, see ``CALENDAR``. The script
prints a row for each night, and exits with status 1 and the reasons if a requirement is violated. Batches of bad
images are large enough to detect in one night, twice or three times the images of a day; smaller ones
are checked with the next batch.
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
# Stands for an exit status: a killed job did not resume from its checkpoint, or its MLflow run stayed open.
NEW_TRAINING = -1


def new_images(hospital: Hospital, day: int) -> None:
    """Images of new patients arrive."""
    hospital.receive(day, n_patients=DAILY_PATIENTS)


def nothing(hospital: Hospital, day: int) -> None:
    """No images arrive."""


def images_of_another_kind(hospital: Hospital, day: int) -> None:
    """A console sends negatives."""
    hospital.receive(day, n_patients=2 * DAILY_PATIENTS, change=negative)


def yesterday_is_removed(hospital: Hospital, day: int) -> None:
    """Someone has removed yesterday's images, as the message asked."""
    hospital.remove(day - 1)
    new_images(hospital, day)


def known_labels_are_wrong(hospital: Hospital, day: int) -> None:
    """An export has swapped the labels of all images but today's."""
    new_images(hospital, day)
    hospital.write_labels(wrong=lambda arrival: arrival != day)


def new_labels_are_wrong(hospital: Hospital, day: int) -> None:
    """An export has swapped the labels of today's images."""
    hospital.receive(day, n_patients=3 * DAILY_PATIENTS)
    hospital.write_labels(wrong=lambda arrival: arrival == day)


def job(project: Project) -> list[int]:
    """The job runs to its end."""
    return [project.run("retraining")]


def killed_job(project: Project) -> list[int]:
    """The job is killed during training, and started again; the training must resume."""
    before = project.checkpoints()
    process = project.start("retraining")
    while process.poll() is None and project.checkpoints() <= before:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    statuses = [process.wait(), project.run("retraining")]
    return statuses if project.resumed() else [*statuses, NEW_TRAINING]


def two_jobs(project: Project) -> list[int]:
    """A second job starts while the first one runs; return the exit statuses of both."""
    first = project.start("retraining")
    while first.poll() is None and not project.locked():
        time.sleep(0.02)
    second = project.run("retraining")
    return [first.wait(), second]


@dataclass(frozen=True)
class Day:
    """The events of a day and its night, and the expected outcome.

    Args:
        change: Changes the hospital.
        night: Runs the jobs.
        statuses: Expected exit statuses of the jobs.
        stopped: Whether training must stop and the champion must not change.
    """

    change: Callable[[Hospital, int], None] = new_images
    night: Callable[[Project], list[int]] = job
    statuses: tuple[int, ...] = (0,)
    stopped: bool = False


WEEKEND = Day(nothing)
CALENDAR = {
    **{day: WEEKEND for day in range(1, 32) if day % 7 in (6, 0)},
    4: Day(nothing),
    9: Day(images_of_another_kind, statuses=(1,), stopped=True),
    10: Day(yesterday_is_removed),
    11: Day(known_labels_are_wrong, statuses=(1,), stopped=True),
    17: Day(new_labels_are_wrong, statuses=(1,), stopped=True),
    22: Day(night=killed_job, statuses=(-signal.SIGKILL, 0)),
    24: Day(night=two_jobs, statuses=(0, LOCKED)),
}


@dataclass
class Month:
    """The state of the simulation.

    Args:
        project: Project in which the jobs run.
        hospital: Source of the images.
        outside: Folder of the images that are never used for training.
        has_finding: Whether each of these shows an effusion.
    """

    project: Project
    hospital: Hospital
    outside: Path
    has_finding: "pd.Series[bool]"
    champion: int | None = None
    n_records: int = 0
    splits: dict[tuple[str, str], str] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def simulate(self, number: int, day: Day) -> list[str]:
        """Simulate a day and its night; return a row for the table."""
        day.change(self.hospital, number)
        started = time.monotonic()
        statuses = day.night(self.project)
        seconds = time.monotonic() - started
        self._require(tuple(statuses) == day.statuses, number, f"exit statuses {statuses}, expected {day.statuses}")
        records = self._check_records(number, day)
        self._check_splits(number)
        metrics = self._check_champion(number, records)
        events = " ".join(filter(None, (day.change.__doc__, "" if day.night is job else day.night.__doc__)))
        decisions = ", ".join(record["decision"] for record in records) or "nothing new"
        return [str(number), events, str(statuses), decisions, str(self.champion), metrics, f"{seconds:.0f} s"]

    def _require(self, condition: bool, day: int, problem: str) -> None:
        if not condition:
            self.problems.append(f"Night {day}: {problem}.")

    def _check_records(self, number: int, day: Day) -> list[dict[str, Any]]:
        records = self.project.decisions()
        new, self.n_records = records[self.n_records :], len(records)
        expected = 0 if day.change is nothing else 1
        self._require(len(new) == expected, number, f"{len(new)} new decision records, expected {expected}")
        stopped = [record["decision"] for record in new] == ["stopped"]
        self._require(stopped == day.stopped, number, f"stopped: {stopped}, expected {day.stopped}")
        return new

    def _check_splits(self, number: int) -> None:
        registry = self.project.registry()
        patients = zip(registry["source"], registry["patient_id"], strict=True)
        splits = dict(zip(patients, registry["split"], strict=True))
        moved = [patient for patient, split in splits.items() if self.splits.get(patient, split) != split]
        n_several = registry.groupby(["source", "patient_id"])["split"].nunique().gt(1).sum()
        problem = f"{len(moved)} patients have changed their split, {n_several} are in two splits"
        self._require(not moved and not n_several, number, problem)
        self.splits |= splits

    def _check_champion(self, number: int, records: list[dict[str, Any]]) -> str:
        before, self.champion = self.champion, self.project.champion()
        promoted = [record["challenger"]["version"] for record in records if record["decision"] == "promoted"]
        expected = promoted[-1] if promoted else before
        self._require(self.champion == expected, number, f"champion {self.champion}, expected {expected}")
        if self.champion == before or self.champion is None:
            return ""
        if self.project.run("scoring", f"{TASK}.scoring.folder={self.outside}"):
            raise SystemExit(f"the champion could not score images; see {self.project.folder / 'printed.txt'}")
        predictions = self.project.predictions().loc[self.has_finding.index]
        metrics = {
            "auc": float(roc_auc_score(self.has_finding, predictions["probability"])),
            "sensitivity": float(recall_score(self.has_finding, predictions["decision"] == TASK)),
            "specificity": float(recall_score(~self.has_finding, predictions["decision"] != TASK)),
        }
        for name, margin in MARGINS.items():
            lost = max((earlier[name] for earlier in self.metrics.values()), default=-np.inf) - metrics[name]
            problem = f"{name} outside is {lost:.3f} below the best earlier champion, more than {margin}"
            self._require(lost <= margin, number, problem)
        self.metrics[self.champion] = metrics
        return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def main() -> None:
    """Simulate the month."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="an empty folder, which is kept; default: a temporary one")
    arguments = parser.parse_args()
    print("Phantom images: these figures say nothing about patients.")
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.folder or Path(temporary)
        project = Project.make(place / "project", task=TASK, params=PARAMS, parameters=PARAMETERS)
        has_finding = draw_outside(place / "outside", OUTSIDE_PATIENTS)
        month = Month(project, Hospital(project.data / "01_raw" / "daily"), place / "outside", has_finding)
        for number in range(1, arguments.days + 1):
            print(" | ".join(month.simulate(number, CALENDAR.get(number, Day()))), flush=True)
    champions = list(month.metrics.values())
    changes = ", ".join(f"{name} {champions[-1][name] - first:+.3f}" for name, first in champions[0].items())
    print(f"{month.n_records} decisions, {len(champions)} champions; from the first to the last: {changes}.")
    sys.exit("\n".join(month.problems) or None)


if __name__ == "__main__":
    main()
