"""A tiny project in known states, runs that are killed in it, and what a finished run leaves."""

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import kedro_process
import psutil
import yaml
from kedro_process import KedroProcess

SMALL = (
    "effusion.sources.phantoms.size=32,effusion.resolution.size=32,effusion.training.epochs=1,"
    "effusion.training.batch_size=8,effusion.augmentation.views=0,effusion.evaluation.replicates=100,"
    "effusion.parallel.workers=2,effusion.parallel.memory_gb=1,effusion.sources.phantoms.n_patients="
)
# One epoch on a few phantoms gives a poor network and wide intervals.
LENIENT = {
    "retraining": {
        "floors": dict.fromkeys(("auc", "sensitivity", "specificity")),
        "sensitivity_margin": 1,
        "auc_margin": 1,
        "on_drift": "warn",
    },
    "ablation": {"cells": {"baseline": {}, "unweighted loss": {"training": {"loss": "cross_entropy"}}} | dict.fromkeys(
        ("without morphology", "without augmentation", "without resampling", "neither resampling nor weights"))},
    "tuning": {"n_trials": 2},
    "sanity": {
        "overfitting": {"epochs": 1, "max_loss": 9, "min_auc": 0.01},
        "shuffled_labels": {"epochs": 1, "permutations": 100},
    },
    "scoring": {"heatmaps": True, "parquet": True},
    "drift": {"min_images": 10},
}  # fmt: skip
# Files whose content a repeated run reproduces. Others name times, durations, MLflow runs or folders.
REPRODUCED = re.compile(
    r"(metrics|decision_rule|subgroups|warnings|sanity)\.json|(manifest|splits|test_scores|sampling_plan)\.parquet"
    r"|(predictions|quarantine|classification_report)\.csv|best_parameters\.yml"
)
_UNIQUE = re.compile(r"[0-9a-f]{12,}|\d{4}-\d\d-\d\dT\d{6}Z(_\d+)?")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


class WatchedProcess(KedroProcess):
    """A kedro command in a process group of its own, which counts its changes on disk and can be killed at one.

    Args:
        counted: file that gets a byte for each change below the project's folder, made by Python code.
        kill_before: number of the change before which the group is killed.
    """

    def __init__(
        self, folder: Path, *arguments: str, counted: Path, kill_before: int | None = None, **variables: str
    ) -> None:
        self.output = counted.with_suffix(".txt")
        for file in (self.output, counted):
            file.write_bytes(b"")
        variables = {**os.environ, "COLUMNS": "200", **variables}
        call = (folder, arguments, self.output, variables, counted, kill_before)
        self._process = kedro_process._context.Process(target=_run, args=call, daemon=False)
        self._process.start()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()

    def left_over(self, seconds: float = 20) -> list[str]:
        """Return the processes of its session that still run some time after its end."""
        deadline = time.monotonic() + seconds
        while (
            found := [p for p in psutil.process_iter(["cmdline"]) if _is_in(p, self.pid)]
        ) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [" ".join(p.info["cmdline"])[:200] for p in found]


def _is_in(process: psutil.Process, session: int) -> bool:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    return False


def _run(folder: Path, arguments: Any, output: Path, variables: Any, counted: Path, kill_before: int | None) -> None:
    os.setsid()
    n_changes = 0
    count, main = os.open(counted, os.O_WRONLY | os.O_APPEND), os.getpid()

    def watch(event: str, values: tuple[Any, ...]) -> None:
        nonlocal n_changes
        if event not in _CHANGES and not (event == "open" and isinstance(values[2], int) and values[2] & _WRITES):
            return
        if not isinstance(values[0], str | bytes | os.PathLike) or "__pycache__" in os.fsdecode(values[0]):
            return
        if Path(os.fsdecode(values[0])).absolute().is_relative_to(folder):
            n_changes += 1
            if os.getpid() == main:
                os.write(count, b".")
            if n_changes == kill_before:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
    kedro_process._run(folder, arguments, output, variables)


class Scenario(NamedTuple):
    """A command, typed again after a kill, and the state in which it is typed."""

    state: str
    arguments: tuple[str, ...]


def command(pipeline: str, n_patients: int = 24, *params: str) -> tuple[str, ...]:
    return ("run", "--env", "demo", f"--pipeline={pipeline}", "--params", ",".join((f"{SMALL}{n_patients}", *params)))


# What was run before, by name of the state: the earlier state and a command.
STATES = {
    "trained": Scenario("empty", command("effusion")),
    "champion": Scenario("empty", command("effusion_retraining")),
    "two champions": Scenario("champion", command("effusion_retraining", 32)),
}
SCENARIOS = {
    "effusion": Scenario("empty", command("effusion")),
    "scoring": Scenario("trained", command("effusion_scoring", 24, "effusion.scoring.folder={images}")),
    "drift": Scenario("trained", command("effusion_drift", 24, "effusion.drift.folder={images}")),
    "promotion": Scenario("trained", ("promote", "effusion", "1", "--env", "demo")),
    "retraining": Scenario("champion", command("effusion_retraining", 32)),
    "first retraining": Scenario("empty", command("effusion_retraining")),
    "rollback": Scenario("two champions", command("effusion_rollback")),
    "sanity": Scenario("trained", command("effusion_sanity")),
    "more patients": Scenario("trained", command("effusion", 32)),
    "ablation": Scenario("trained", command("effusion_ablation")),
    "tuning": Scenario("trained", command("effusion_tuning")),
}


class Project:
    """One project folder that takes the states of the scenarios; each state is made once.

    Args:
        folder: folder for the project, the copies of its states and the output of commands.
        new_project: makes a project.
    """

    def __init__(self, folder: Path, new_project: Callable[[Path], Path]) -> None:
        self._place = folder
        self.folder = new_project(folder / "project")
        (self.folder / "conf" / "demo" / "parameters" / "small.yml").write_text(yaml.safe_dump({"effusion": LENIENT}))
        self._references: dict[str, tuple[dict[str, Any], int, float]] = {}
        self._save("empty")

    def start(self, arguments: tuple[str, ...], *, name: str = "run", **options: Any) -> WatchedProcess:
        """Start a command; ``{images}`` in an argument is a folder of images."""
        images = self.folder / "data" / "demo" / "01_raw" / "phantoms" / "images"
        given = [argument.replace("{images}", str(images)) for argument in arguments]
        (self._place / "tmp").mkdir(exist_ok=True)
        return WatchedProcess(
            self.folder, *given, counted=self._place / name, TMPDIR=str(self._place / "tmp"), **options
        )

    def finish(self, arguments: tuple[str, ...]) -> None:
        """Run a command, which must succeed and leave no process."""
        process = self.start(arguments)
        assert process.wait() == 0, process.printed()[-3000:]
        assert "Traceback" not in process.printed(), process.printed()[-3000:]
        assert process.left_over() == []

    def take(self, state: str) -> None:
        """Put the project into a state, which is made first if necessary."""
        copy = self._place / state
        if not copy.exists():
            self.take(STATES[state].state)
            self.finish(STATES[state].arguments)
            self._save(state)
        self._clear()
        shutil.copytree(copy, self.folder, dirs_exist_ok=True)

    def reference(self, scenario: str) -> tuple[dict[str, Any], int, float]:
        """Return what an undisturbed run leaves, its number of changes on disk, and its duration in seconds."""
        if scenario not in self._references:
            self.take(SCENARIOS[scenario].state)
            started = time.monotonic()
            self.finish(SCENARIOS[scenario].arguments)
            seconds = time.monotonic() - started
            self._references[scenario] = self.facts(), (self._place / "run").stat().st_size, seconds
        return self._references[scenario]

    def facts(self) -> dict[str, Any]:
        """Return the files of the project, with digests of those that are reproduced, and the state of MLflow."""
        data = self.folder / "data" / "demo"
        facts: dict[str, Any] = {}
        for file in sorted(path for path in data.rglob("*") if path.is_file()):
            content = hashlib.sha256(file.read_bytes()).hexdigest() if REPRODUCED.fullmatch(file.name) else ""
            facts[_UNIQUE.sub("*", str(file.relative_to(data)))] = content
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            for name, query in {
                "versions": "SELECT name, version, current_stage FROM model_versions ORDER BY version",
                "digests": "SELECT version, value FROM model_version_tags WHERE key = 'digest' ORDER BY version",
                "aliases": "SELECT alias, version FROM registered_model_aliases ORDER BY alias",
                "running": "SELECT name FROM runs WHERE status = 'RUNNING'",
                "integrity": "PRAGMA integrity_check",
            }.items():
                facts[name] = database.execute(query).fetchall()
        return facts

    def _clear(self) -> None:
        for name in ("data", "mlartifacts", "conf/local"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for file in self.folder.glob("mlflow.db*"):
            file.unlink()

    def _save(self, state: str) -> None:
        (self._place / state).mkdir()
        for path in [self.folder / name for name in ("data", "mlartifacts", "conf/local")]:
            if path.exists():
                shutil.copytree(path, self._place / state / path.relative_to(self.folder))
        for file in self.folder.glob("mlflow.db*"):
            shutil.copy(file, self._place / state)


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Describe what differs between the facts of two runs."""
    names = sorted(found.keys() | expected.keys())
    return [
        f"{n}: {found.get(n, 'absent')}, expected {expected.get(n, 'absent')}"
        for n in names
        if found.get(n) != expected.get(n)
    ]
