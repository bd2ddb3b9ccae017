"""A project of its own, in which ``kedro run`` is started as cron starts it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Project:
    """Code and configuration in a folder; what it is run on is phantoms, in the demo environment.

    Args:
        folder: of the project.
        task: the task that is run.
        params: given as ``--params`` to every run.
    """

    folder: Path
    task: str
    params: str

    @classmethod
    def make(cls, folder: Path, *, task: str, params: str, parameters: dict[str, Any]) -> "Project":
        """Copy this repository's code and configuration; ``parameters`` are laid over those of the task."""
        shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
        (folder / "conf" / "local").mkdir()
        shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        (folder / ".telemetry").write_text("consent: false\n")
        (folder / "conf" / "demo" / "parameters" / "own.yml").write_text(yaml.safe_dump({task: parameters}))
        return cls(folder, task, params)

    @property
    def data(self) -> Path:
        """Where its data lies."""
        return self.folder / "data" / "demo"

    def start(self, what: str, *params: str) -> "subprocess.Popen[str]":
        """Start ``<task>_<what>``; what it prints is added to ``printed.txt``."""
        given = ",".join((self.params, *params))
        pipeline = f"--pipeline={self.task}_{what}"
        with (self.folder / "printed.txt").open("a") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "kedro", "run", "--env", "demo", pipeline, "--params", given],
                cwd=self.folder,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            )

    def run(self, what: str, *params: str) -> int:
        """Run it to its end; its exit status."""
        return self.start(what, *params).wait()

    def champion(self) -> int | None:
        """Number of the version in use."""
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        found = client.get_registered_model(f"cxr-{self.task}-demo").aliases
        return int(found["champion"]) if "champion" in found else None

    def decisions(self) -> list[dict[str, Any]]:
        """The decision records, the oldest first."""
        files = (self.data / "08_reporting" / self.task / "decisions").glob("*.json")
        return [json.loads(file.read_text()) for file in sorted(files)]

    def ledger(self) -> pd.DataFrame:
        """The split of every image that was ever dealt."""
        return pd.read_parquet(self.data / "05_model_input" / self.task / "splits.parquet")

    def in_training(self) -> bool:
        """Whether a training has ended an epoch, and not its last one."""
        return any((self.data / "06_models" / "checkpoints").rglob("*.npz"))

    def went_on(self) -> bool:
        """Whether the last training went on from a checkpoint, and no MLflow run is left open."""
        logs = (self.data / "07_model_output" / self.task / "retraining").glob("*/log.txt")
        newest = max(logs, key=lambda log: log.stat().st_mtime).read_text()
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiments = [found.experiment_id for found in client.search_experiments()]
        return "Training goes on after epoch" in newest and not client.search_runs(
            experiments, "attributes.status = 'RUNNING'"
        )

    def locked(self) -> bool:
        """Whether a retraining is at work."""
        return (self.data / "07_model_output" / self.task / "retraining" / "job.json").exists()

    def predictions(self) -> pd.DataFrame:
        """What the last scoring wrote."""
        return pd.read_csv(self.data / "07_model_output" / self.task / "predictions.csv").set_index("image")
