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
from typing import Any

import kedro_process
import psutil
from kedro_process import KedroProcess

SMALL = (
    "effusion.sources.phantoms.size=32,effusion.resolution.size=32,effusion.training.epochs=1,"
    "effusion.training.batch_size=8,effusion.augmentation.views=0,effusion.evaluation.replicates=100,"
    "effusion.parallel.workers=2,effusion.parallel.memory_gb=1,effusion.sources.phantoms.n_patients="
)
# One epoch on a few phantoms gives a poor network and wide intervals.
CONFIGURATION = """
effusion:
  retraining:
    floors: {auc: null, sensitivity: null, specificity: null}
    sensitivity_margin: 1
    auc_margin: 1
    on_drift: warn
  ablation:
    cells: {without morphology: null, without augmentation: null, without resampling: null}
  tuning: {n_trials: 2}
  sanity:
    overfitting: {epochs: 1, max_loss: 9, min_auc: 0.01}
    shuffled_labels: {epochs: 1, permutations: 100}
  scoring: {heatmaps: true, parquet: true}
  drift: {min_images: 10}
"""
# Files whose content a repeated run reproduces. Others name times, durations, MLflow runs or folders; a search that
# is killed draws other values for the trials that it lost.
_REPRODUCED = re.compile(
    r"(metrics|decision_rule|subgroups|warnings|sanity)\.json|(manifest|splits|test_scores|sampling_plan)\.parquet"
    r"|(predictions|quarantine|classification_report)\.csv"
)
# A run that is killed after it has registered a version registers another one of the same network.
_UNIQUE = re.compile(r"[0-9a-f]{12,}|\d{4}-\d\d-\d\dT\d{6}Z(_\d+)?|_\d+(?=\.html)")
# Hashes are cached once a file has some age, and temporary files of folders of all tasks are kept for an hour.
_UNCERTAIN = re.compile(r"content_hashes/|^(01_raw|03_primary/images|06_models/checkpoints)/(.*/)?\.")
_FACTS = {
    "versions": "SELECT DISTINCT value FROM model_version_tags WHERE key = 'digest' ORDER BY value",
    "aliases": "SELECT alias, value FROM registered_model_aliases AS aliases JOIN model_version_tags AS tags"
    " ON tags.version = aliases.version AND tags.key = 'digest' ORDER BY alias",
    "running": "SELECT name FROM runs WHERE status = 'RUNNING'",
    "integrity": "PRAGMA integrity_check",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def command(pipeline: str, n_patients: int = 24, *params: str) -> tuple[str, ...]:
    return ("run", "--env", "demo", f"--pipeline={pipeline}", "--params", ",".join((f"{SMALL}{n_patients}", *params)))


# How each state of the project is made, and commands that are typed in one: the state before, and a command.
STATES = {
    "trained": ("empty", command("effusion")),
    "champion": ("empty", command("effusion_retraining")),
    "two champions": ("champion", command("effusion_retraining", 32)),
}
SCENARIOS = {
    "effusion": ("empty", command("effusion")),
    "ensemble": ("empty", command("effusion", 24, "effusion.training.folds=3", "effusion.evaluation.views=2")),
    "scoring": ("trained", command("effusion_scoring", 24, "effusion.scoring.folder={images}")),
    "drift": ("trained", command("effusion_drift", 24, "effusion.drift.folder={images}")),
    "promotion": ("trained", ("promote", "effusion", "1", "--env", "demo")),
    "retraining": ("champion", command("effusion_retraining", 32)),
    "first retraining": ("empty", command("effusion_retraining")),
    "rollback": ("two champions", command("effusion_rollback")),
    "sanity": ("trained", command("effusion_sanity")),
    "more patients": ("trained", command("effusion", 32)),
    "ablation": ("trained", command("effusion_ablation")),
    "tuning": ("trained", command("effusion_tuning")),
}


def kill_group() -> None:
    """Kill the process and all that it has started."""
    os.killpg(0, signal.SIGKILL)


class FaultyProcess(KedroProcess):
    """A kedro command in a process group of its own; ``fault`` is called before its n-th change on disk, if given.

    Changes are those that Python code makes below the project's folder, also in processes that it has started.
    ``counted`` gets a byte for each of the process itself.
    """

    def __init__(self, folder: Path, arguments: Any, counted: Path, variables: Any, n: int | None, fault: Any) -> None:
        self.output = counted.with_suffix(".txt")
        for file in (self.output, counted):
            file.write_bytes(b"")
        call = (folder, arguments, self.output, {**os.environ, "COLUMNS": "200", **variables}, counted, n, fault)
        self._process = kedro_process._context.Process(target=_run, args=call, daemon=False)
        self._process.start()

    def kill_after(self, seconds: float) -> None:
        """Kill the process and all that it has started, unless it ends before."""
        self._process.join(seconds)
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.kill()

    def descendants(self) -> list[str]:
        """Return the processes that it has started and that still run 20 s after its end."""
        deadline = time.monotonic() + 20
        while True:
            found = []
            for process in psutil.process_iter(["cmdline"]):
                with suppress(ProcessLookupError, psutil.NoSuchProcess):
                    if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(" ".join(process.info["cmdline"] or ["?"])[:200])
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def _run(folder: Path, arguments: Any, output: Path, variables: Any, counted: Path, n: int | None, fault: Any) -> None:
    os.setsid()
    n_changes = 0
    count, main = os.open(counted, os.O_WRONLY | os.O_APPEND), os.getpid()

    def watch(event: str, values: tuple[Any, ...]) -> None:
        nonlocal n_changes
        is_change = event in _CHANGES or (event == "open" and isinstance(values[2], int) and values[2] & _WRITES)
        if not is_change or not isinstance(values[0], str | bytes | os.PathLike):
            return
        path = Path(os.fsdecode(values[0])).absolute()
        if path.is_relative_to(folder) and "__pycache__" not in path.parts:
            n_changes += 1
            if os.getpid() == main:
                os.write(count, b".")
            if n_changes == n:
                fault()

    sys.addaudithook(watch)
    kedro_process._run(folder, arguments, output, variables)


class Project:
    """A project folder, in ``place`` unless given, that takes the states; each state is made once."""

    def __init__(self, place: Path, new_project: Callable[[Path], Path], folder: Path | None = None) -> None:
        self._place = place
        self.folder = new_project(folder or place / "project")
        (self.folder / "conf" / "demo" / "parameters" / "small.yml").write_text(CONFIGURATION)
        self._undisturbed: dict[str, tuple[dict[str, Any], int, float]] = {}
        (place / "tmp").mkdir()
        self._save("empty")

    def start(
        self, arguments: Any, *, name: str = "run", n: int | None = None, fault: Any = kill_group, **variables: str
    ) -> FaultyProcess:
        """Start a command; ``{images}`` in an argument is a folder of images."""
        images = str(self.folder / "data" / "demo" / "01_raw" / "phantoms" / "images")
        given = [argument.replace("{images}", images) for argument in arguments]
        variables = {"TMPDIR": str(self._place / "tmp"), **variables}
        return FaultyProcess(self.folder, given, self._place / name, variables, n, fault)

    def finish(self, arguments: Any, *, done: str | None = None, **variables: str) -> None:
        """Run a command, which must succeed, or say ``done`` if given, and leave no process."""
        process = self.start(arguments, **variables)
        status, printed = process.wait(), process.printed()[-3000:]
        assert status == 0 or (done and done in printed), printed
        assert "Traceback" not in printed, printed
        assert process.descendants() == []

    def take(self, state: str) -> None:
        """Put the project into a state, which is made first if necessary."""
        if not (self._place / state).exists():
            before, arguments = STATES[state]
            self.take(before)
            self.finish(arguments)
            self._save(state)
        for path in self._written():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._place / state, self.folder, dirs_exist_ok=True)

    def undisturbed(self, name: str) -> tuple[dict[str, Any], int, float]:
        """Return what a scenario leaves without a fault, its number of changes on disk, and its duration in seconds."""
        if name not in self._undisturbed:
            state, arguments = SCENARIOS[name]
            self.take(state)
            started = time.monotonic()
            self.finish(arguments)
            seconds = time.monotonic() - started
            self._undisturbed[name] = self.facts(), (self._place / "run").stat().st_size, seconds
        return self._undisturbed[name]

    def facts(self) -> dict[str, Any]:
        """Return the files of the project, with digests of those that are reproduced, and the state of MLflow."""
        data = self.folder / "data" / "demo"
        facts: dict[str, Any] = {}
        for file in sorted(path for path in data.rglob("*") if path.is_file()):
            name = str(file.relative_to(data))
            if not _UNCERTAIN.search(name):
                digest = hashlib.sha256(file.read_bytes()).hexdigest() if _REPRODUCED.fullmatch(file.name) else ""
                facts[_UNIQUE.sub("*", name)] = digest
        return facts | {name: self.query(query) for name, query in _FACTS.items()}

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the database of MLflow."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(query).fetchall()

    def differences(self, expected: dict[str, Any]) -> list[str]:
        """Describe what differs from the facts of another run."""
        found = self.facts()
        return [
            f"{name}: {found.get(name, 'absent')}, expected {expected.get(name, 'absent')}"
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        ]

    def _written(self) -> list[Path]:
        folders = [self.folder / name for name in ("data", "mlartifacts", "conf/local")]
        return [path for path in (*folders, *self.folder.glob("mlflow.db*")) if path.exists()]

    def _save(self, state: str) -> None:
        for path in self._written():
            target = self._place / state / path.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
