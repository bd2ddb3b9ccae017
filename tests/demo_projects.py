"""Small projects in the demo environment: parameters, their state on disk and in MLflow, and running commands."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import psutil
from kedro_process import KedroProcess

SMALL = "effusion.resolution.size=48,effusion.evaluation.replicates=200,effusion.training.epochs=2"
FEW_PATIENTS = f"{SMALL},effusion.sources.phantoms.n_patients=40"
MODEL = "cxr-effusion-demo"


def arguments(pipeline: str, *params: str) -> tuple[str, ...]:
    """Return the arguments of a run."""
    return ("run", "--env", "demo", f"--pipeline={pipeline}", "--params", ",".join(params))


def data(folder: Path) -> Path:
    return folder / "data" / "demo"


def reporting(folder: Path) -> Path:
    return data(folder) / "08_reporting" / "effusion"


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def versions(folder: Path) -> list[Any]:
    return list(client(folder).search_model_versions(f"name='{MODEL}'"))


def runs(folder: Path) -> list[Any]:
    """Return the MLflow runs of the task, the newest first."""
    experiments = [experiment.experiment_id for experiment in client(folder).search_experiments()]
    return list(client(folder).search_runs(experiments, order_by=["attributes.start_time DESC"]))


def holder(folder: Path) -> dict[str, Any]:
    """Return the record of the run that holds the lock."""
    record = data(folder) / "02_intermediate" / "effusion" / "run.json"
    return dict(json.loads(record.read_text())) if record.exists() else {}


def wait_for(condition: Callable[[], object], process: KedroProcess) -> None:
    """Wait until a running command has come to a state."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.printed()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stop(process: KedroProcess, signum: int) -> int:
    """Send a signal, and return the exit status; the processes that the command has started end too."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signum)
    status = process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    return status


def succeeded(finished: Any) -> str:
    """Return the output of a command that succeeded, in one line."""
    assert finished.returncode == 0, finished.stdout
    return words(finished.stdout)


def words(text: str) -> str:
    """Return a text with single spaces."""
    return " ".join(text.split())
