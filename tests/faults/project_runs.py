"""A tiny project in known states, commands that a fault hits at a change on disk, and what a command leaves."""

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
_CELLS = ("without morphology", "without augmentation", "without resampling", "neither resampling nor weights")
CONFIGURATION = {
    "retraining": {
        "floors": dict.fromkeys(("auc", "sensitivity", "specificity")),
        "sensitivity_margin": 1,
        "auc_margin": 1,
        "on_drift": "warn",
    },
    "ablation": {"cells": dict.fromkeys(_CELLS)},
    "tuning": {"n_trials": 2},
    "sanity": {
        "overfitting": {"epochs": 1, "max_loss": 9, "min_auc": 0.01},
        "shuffled_labels": {"epochs": 1, "permutations": 100},
    },
    "scoring": {"heatmaps": True, "parquet": True},
    "drift": {"min_images": 10},
}
# Files whose content a repeated run reproduces. Others name times, durations, MLflow runs or folders.
_REPRODUCED = re.compile(
    r"(metrics|decision_rule|subgroups|warnings|sanity)\.json|(manifest|splits|test_scores|sampling_plan)\.parquet"
    r"|(predictions|quarantine|classification_report)\.csv|best_parameters\.yml"
)
# Hashes are cached once a file has some age, and temporary files of folders of all tasks are kept for an hour.
_UNCERTAIN = re.compile(r"content_hashes/|^(01_raw|03_primary/images|06_models/checkpoints)/(.*/)?\.")
# A run that has registered a version and is then killed registers another one of the same network.
_UNIQUE = re.compile(r"[0-9a-f]{12,}|\d{4}-\d\d-\d\dT\d{6}Z(_\d+)?|_\d+(?=\.html)")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def kill_group() -> None:
    """Kill the process and all that it has started."""
    os.killpg(0, signal.SIGKILL)


class FaultyProcess(KedroProcess):
    """A kedro command in a process group of its own, which a fault hits before a change on disk.

    Args:
        name: path of a file that gets a byte for each change below the project's folder made by Python code of the
            process. Its output is in a file of the same name with the suffix ``.txt``.
        before: number of a change, which may also be one of a process that it has started.
        fault: called before that change.
    """

    def __init__(
        self, folder: Path, *arguments: str, name: Path, before: int | None, fault: Callable[[], None], **variables: str
    ) -> None:
        self.output, self.name = name.with_suffix(".txt"), name
        for file in (self.output, name):
            file.write_bytes(b"")
        variables = {**os.environ, "COLUMNS": "200", **variables}
        call = (folder, arguments, self.output, variables, name, before, fault)
        self._process = kedro_process._context.Process(target=_run, args=call, daemon=False)
        self._process.start()

    @property
    def n_changes(self) -> int:
        """The number of changes on disk so far."""
        return self.name.stat().st_size

    def join(self, seconds: float) -> None:
        """Wait for the end, at most that long."""
        self._process.join(seconds)

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()

    def descendants(self) -> list[str]:
        """Return the processes that it has started and that still run 20 s after its end."""
        deadline = time.monotonic() + 20
        while True:
            found = [process for process in psutil.process_iter(["cmdline"]) if _is_in_session(process, self.pid)]
            if not found or time.monotonic() > deadline:
                return [" ".join(process.info["cmdline"] or ["?"])[:200] for process in found]
            time.sleep(0.1)


def _is_in_session(process: psutil.Process, session: int) -> bool:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    return False


def _run(
    folder: Path, arguments: Any, output: Path, variables: Any, name: Path, before: int | None, fault: Any
) -> None:
    os.setsid()
    n_changes = 0
    count, main = os.open(name, os.O_WRONLY | os.O_APPEND), os.getpid()

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
            if n_changes == before:
                fault()

    sys.addaudithook(watch)
    kedro_process._run(folder, arguments, output, variables)


class Scenario(NamedTuple):
    """A command, and the state of the project in which it is typed."""

    state: str
    arguments: tuple[str, ...]


def command(pipeline: str, n_patients: int = 24, *params: str) -> tuple[str, ...]:
    return ("run", "--env", "demo", f"--pipeline={pipeline}", "--params", ",".join((f"{SMALL}{n_patients}", *params)))


# How each state is made.
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


class Undisturbed(NamedTuple):
    """An undisturbed run of a scenario: what it leaves, its number of changes on disk, and its duration."""

    facts: dict[str, Any]
    n_changes: int
    seconds: float


class Project:
    """A project folder that takes the states of the scenarios; each state is made once.

    Args:
        place: folder for copies of the states, and for output.
        new_project: makes the project.
        folder: where; in ``place`` if None.
    """

    def __init__(self, place: Path, new_project: Callable[[Path], Path], folder: Path | None = None) -> None:
        self._place = place
        self.folder = new_project(folder or place / "project")
        parameters = self.folder / "conf" / "demo" / "parameters" / "small.yml"
        parameters.write_text(yaml.safe_dump({"effusion": CONFIGURATION}))
        self._undisturbed: dict[str, Undisturbed] = {}
        (place / "tmp").mkdir()
        self._save("empty")

    def start(
        self,
        arguments: tuple[str, ...],
        *,
        name: str = "run",
        before: int | None = None,
        fault: Callable[[], None] = kill_group,
        **variables: str,
    ) -> FaultyProcess:
        """Start a command; ``{images}`` in an argument is a folder of images."""
        images = self.folder / "data" / "demo" / "01_raw" / "phantoms" / "images"
        given = [argument.replace("{images}", str(images)) for argument in arguments]
        variables = {"TMPDIR": str(self._place / "tmp"), **variables}
        return FaultyProcess(self.folder, *given, name=self._place / name, before=before, fault=fault, **variables)

    def finish(self, arguments: tuple[str, ...], **variables: str) -> FaultyProcess:
        """Run a command, which must succeed and leave no process."""
        process = self.start(arguments, **variables)
        assert process.wait() == 0, process.printed()[-3000:]
        assert "Traceback" not in process.printed(), process.printed()[-3000:]
        assert process.descendants() == []
        return process

    def take(self, state: str) -> None:
        """Put the project into a state, which is made first if necessary."""
        if not (self._place / state).exists():
            self.take(STATES[state].state)
            self.finish(STATES[state].arguments)
            self._save(state)
        for path in self._changed():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._place / state, self.folder, dirs_exist_ok=True)

    def undisturbed(self, name: str) -> Undisturbed:
        """Run a scenario without a fault, once."""
        if name not in self._undisturbed:
            self.take(SCENARIOS[name].state)
            started = time.monotonic()
            process = self.finish(SCENARIOS[name].arguments)
            self._undisturbed[name] = Undisturbed(self.facts(), process.n_changes, time.monotonic() - started)
        return self._undisturbed[name]

    def facts(self) -> dict[str, Any]:
        """Return the files of the project, with digests of those that are reproduced, and the state of MLflow."""
        data = self.folder / "data" / "demo"
        facts: dict[str, Any] = {}
        for file in sorted(path for path in data.rglob("*") if path.is_file()):
            if _UNCERTAIN.search(f"{file.relative_to(data)}"):
                continue
            digest = hashlib.sha256(file.read_bytes()).hexdigest() if _REPRODUCED.fullmatch(file.name) else ""
            facts[_UNIQUE.sub("*", str(file.relative_to(data)))] = digest
        for name, query in {
            "versions": "SELECT DISTINCT value FROM model_version_tags WHERE key = 'digest' ORDER BY value",
            "aliases": "SELECT alias, value FROM registered_model_aliases AS aliases JOIN model_version_tags AS tags"
            " ON tags.version = aliases.version AND tags.key = 'digest' ORDER BY alias",
            "running": "SELECT name FROM runs WHERE status = 'RUNNING'",
            "integrity": "PRAGMA integrity_check",
        }.items():
            facts[name] = self.query(query)
        return facts

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the database of MLflow."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(query).fetchall()

    def _changed(self) -> list[Path]:
        """Return what commands write."""
        folders = [self.folder / name for name in ("data", "mlartifacts", "conf/local")]
        return [path for path in (*folders, *self.folder.glob("mlflow.db*")) if path.exists()]

    def _save(self, state: str) -> None:
        for path in self._changed():
            target = self._place / state / path.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Describe what differs between the facts of two runs."""
    return [
        f"{name}: {found.get(name, 'absent')}, expected {expected.get(name, 'absent')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
