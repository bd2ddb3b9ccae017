"""Retraining DAGs: created by kedro-airflow, loaded and run by Airflow in its own environment."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from cxr_pipeline.framework.config import TASKS

AIRFLOW = Path(__file__).parents[2] / ".venv-airflow" / "bin"
RETRAININGS = [f"{task}_retraining" for task in TASKS]
SMALL = {
    "sources": {"phantoms": {"n_patients": 40}},
    "training": {"epochs": 2},
    "resolution": {"size": 48},
    "evaluation": {"replicates": 200},
    "retraining": {"floors": dict.fromkeys(("auc", "sensitivity", "specificity"))},
}
# Exits with the status in the file `status`; after a kill the second try succeeds.
STUB = """#!/bin/sh
cd "$(dirname "$0")"
status=$(cat status)
echo "$@" > arguments
[ "$status" = kill ] && echo 0 > status && kill -KILL $$
exit "$status"
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory) -> Path:
    """Replaces the kedro command where no training is needed."""
    file: Path = tmp_path_factory.mktemp("a 'stub'") / "kedro"
    file.write_text(STUB)
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def project(tmp_path_factory, new_project, kedro, stub) -> Path:
    """A small project with its DAGs, in a folder whose name needs quotes."""
    folder: Path = new_project(tmp_path_factory.mktemp("airflow") / "a 'project'")
    demo = folder / "conf" / "demo"
    (demo / "parameters" / "small.yml").write_text(yaml.safe_dump({"effusion": SMALL}))
    schedule = {
        "default": {"retry_delay": 0, "kedro": str(stub)},
        "effusion_retraining": {"kedro": str(Path(sys.executable).with_name("kedro")), "schedule": None},
    }
    (demo / "airflow.yml").write_text(yaml.safe_dump(schedule))
    made = kedro(
        folder,
        *("airflow", "create", "--env", "demo", "--jinja-file", "conf/airflow_dag.j2"),
        *("--pipelines", ",".join(RETRAININGS)),
    )
    assert made.returncode == 0, made.stdout
    return folder


def test_a_dag_does_not_import_the_project(project: Path) -> None:
    files = sorted((project / "airflow_dags").glob("*.py"))
    assert len(files) == len(RETRAININGS)
    for file in files:
        tree = ast.walk(ast.parse(file.read_text()))
        names = {name.split(".")[0] for node in tree for name in imported(node)}
        assert names == {"airflow", "datetime", "shlex"}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.fixture(scope="module")
def environment(tmp_path_factory, project) -> dict[str, str]:
    """The environment variables of an Airflow with its own SQLite database."""
    if not (AIRFLOW / "airflow").exists():
        pytest.skip(f"There is no Airflow in {AIRFLOW.parent}: make airflow")
    variables = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow_home")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    printed(variables, "airflow", "db", "migrate")
    return variables


def printed(environment: dict[str, str], *command: str) -> str:
    finished = subprocess.run(
        [AIRFLOW / command[0], *command[1:]],
        env=environment,
        text=True,
        timeout=600,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


@pytest.fixture(scope="module")
def states(environment, stub, tmp_path_factory) -> dict[str, Any]:
    """The DAGs as Airflow loads them, and the final states for each exit status of the command."""
    result = tmp_path_factory.mktemp("states") / "states.json"
    script = Path(__file__).with_name("dag_states.py")
    folder = environment["AIRFLOW__CORE__DAGS_FOLDER"]
    files = (str(stub.with_name("status")), str(result))
    printed(
        environment, "python", str(script), folder, "pneumonia_retraining_demo", *files, "0", "75", "1", "2", "kill"
    )
    return dict(json.loads(result.read_text()))


def test_airflow_loads_all_dags_with_the_configured_schedule(states) -> None:
    assert states["import_errors"] == {}
    assert set(states["dags"]) == {f"{name}_demo" for name in RETRAININGS}
    for name in RETRAININGS:
        assert states["dags"][f"{name}_demo"] == {
            "schedule": None if name == "effusion_retraining" else "0 2 * * *",
            "max_active_runs": 1,
            "catchup": False,
            "tasks": {name: 2},
        }


@pytest.mark.parametrize(
    ("status", "run", "task", "tries"),
    [
        pytest.param("0", "success", "success", 1, id="done"),
        pytest.param("75", "success", "skipped", 1, id="locked"),
        pytest.param("1", "failed", "failed", 1, id="error"),
        pytest.param("2", "failed", "failed", 3, id="unknown"),
        pytest.param("kill", "success", "success", 2, id="killed"),
    ],
)
def test_only_temporary_failures_are_retried(states, stub, status, run, task, tries) -> None:
    assert states["states"][status] == {"run": run, "task": task, "tries": tries}
    assert stub.with_name("arguments").read_text().split() == ["run", "--pipeline=pneumonia_retraining", "--env=demo"]


def test_a_retraining_is_one_mlflow_run_with_its_challenger_nested_below(environment, project: Path) -> None:
    log = printed(environment, "airflow", "dags", "test", "effusion_retraining_demo")
    assert "cxr-effusion-demo 1 is the new champion." in log
    assert "state=success" in log
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    challenger, retraining = runs
    assert challenger.data.tags["mlflow.parentRunId"] == retraining.info.run_id
    assert retraining.data.tags["decision"] == "promoted"
