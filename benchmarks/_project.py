"""A separate project, in which ``kedro run`` is started as cron starts it."""

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
    """A folder with code and configuration; its runs use phantoms, in the demo environment.

    Args:
        folder: Folder of the project.
        task: Name of the task.
        params: ``--params`` of every run.
    """

    folder: Path
    task: str
    params: str

    @classmethod
    def make(cls, folder: Path, *, task: str, params: str, parameters: dict[str, Any]) -> "Project":
        """Copy the code and configuration of this repository; ``parameters`` override those of the task."""
        shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
        (folder / "conf" / "local").mkdir()
        shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        (folder / ".telemetry").write_text("consent: false\n")
        (folder / "conf" / "demo" / "parameters" / "own.yml").write_text(yaml.safe_dump({task: parameters}))
        return cls(folder, task, params)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data" / "demo"

    def start(self, suffix: str, *params: str) -> "subprocess.Popen[str]":
        """Start the pipeline ``<task>_<suffix>``; its output is appended to ``printed.txt``."""
        given = ",".join((self.params, *params))
        pipeline = f"--pipeline={self.task}_{suffix}"
        with (self.folder / "printed.txt").open("a") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "kedro", "run", "--env", "demo", pipeline, "--params", given],
                cwd=self.folder,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            )

    def run(self, suffix: str, *params: str) -> int:
        """Run the pipeline ``<task>_<suffix>``; return its exit status."""
        return self.start(suffix, *params).wait()

    def champion(self) -> int | None:
        """Return the version number of the champion."""
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        found = client.get_registered_model(f"cxr-{self.task}-demo").aliases
        return int(found["champion"]) if "champion" in found else None

    def decisions(self) -> list[dict[str, Any]]:
        """Return the decision records, oldest first."""
        files = (self.data / "08_reporting" / self.task / "decisions").glob("*.json")
        return [json.loads(file.read_text()) for file in sorted(files)]

    def registry(self) -> pd.DataFrame:
        """Return the split registry."""
        return pd.read_parquet(self.data / "05_model_input" / self.task / "splits.parquet")

    def checkpoints(self) -> set[Path]:
        """Return the files of all training phases. A new one is written after the first epoch of a phase."""
        return set((self.data / "06_models" / "checkpoints").rglob("*.npz"))

    def resumed(self) -> bool:
        """Return whether the last training run resumed from a checkpoint, and no MLflow run is still open."""
        logs = (self.data / "07_model_output" / self.task / "retraining").glob("*/log.txt")
        newest = max(logs, key=lambda log: log.stat().st_mtime).read_text()
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiments = [found.experiment_id for found in client.search_experiments()]
        return "resuming after epoch" in newest and not client.search_runs(experiments, "attributes.status = 'RUNNING'")

    def locked(self) -> bool:
        """Return whether a run of the task is active."""
        return (self.data / "02_intermediate" / self.task / "run.json").exists()

    def predictions(self) -> pd.DataFrame:
        """Return the predictions of the last scoring."""
        return pd.read_csv(self.data / "07_model_output" / self.task / "predictions.csv").set_index("image")
