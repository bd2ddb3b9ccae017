"""DAGs: created by kedro-airflow, loaded and run by Airflow in its own environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shipped import TASKS

AIRFLOW = Path(__file__).parents[2] / ".venv-airflow" / "bin"
RETRAININGS = [f"{task}_retraining" for task in TASKS]
# It runs the real kedro command, and takes a few seconds.
REAL = "comparison"
# Exits with the status in the file `status`; after a kill the second try succeeds.
STUB = """#!/bin/sh
cd "$(dirname "$0")"
status=$(cat status)
echo "$@" > arguments
[ "$status" = kill ] && echo 0 > status && kill -KILL $$
exit "$status"
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """Replaces the kedro command where no training is needed."""
    file = tmp_path_factory.mktemp("a 'stub'") / "kedro"
    file.write_text(STUB)
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def project(tmp_path_factory, new_project, kedro, stub):
    """A project with its DAGs, in a folder whose name needs quotes."""
    folder = new_project(tmp_path_factory.mktemp("airflow") / "a 'project'")
    schedule = {
        "default": {"retry_delay": 0, "kedro": str(stub)},
        REAL: {"kedro": str(Path(sys.executable).with_name("kedro")), "schedule": None},
    }
    (folder / "conf" / "demo" / "airflow.yml").write_text(yaml.safe_dump(schedule))
    made = kedro(
        folder,
        *("airflow", "create", "--env", "demo", "--jinja-file", "conf/airflow_dag.j2"),
        *("--pipelines", ",".join([*RETRAININGS, REAL])),
    )
    assert made.returncode == 0, made.stdout
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory, project):
    """The environment variables of an Airflow with its own SQLite database."""
    if not (AIRFLOW / "airflow").exists():
        pytest.skip(f"There is no Airflow in {AIRFLOW.parent}: make airflow")
    variables = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow_home")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    run(variables, "airflow", "db", "migrate")
    return variables


def run(environment, command, *arguments):
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    finished = subprocess.run([AIRFLOW / command, *arguments], env=environment, timeout=600, **output)
    assert finished.returncode == 0, finished.stdout


@pytest.fixture(scope="module")
def states(environment, stub, tmp_path_factory):
    """The DAGs as Airflow loads them, and the final states for each exit status of the command."""
    result = tmp_path_factory.mktemp("states") / "states.json"
    script, folder = Path(__file__).with_name("dag_states.py"), environment["AIRFLOW__CORE__DAGS_FOLDER"]
    names = ("pneumonia_retraining_demo", f"{REAL}_demo")
    files = (stub.with_name("status"), result)
    run(environment, "python", *map(str, (script, folder, *names, *files, "0", "75", "1", "2", "kill")))
    return dict(json.loads(result.read_text()))


def test_airflow_loads_all_dags_with_the_configured_schedule(states):
    assert states["import_errors"] == {}
    assert set(states["dags"]) == {f"{name}_demo" for name in (*RETRAININGS, REAL)}
    for name in (*RETRAININGS, REAL):
        assert states["dags"][f"{name}_demo"] == {
            "schedule": None if name == REAL else "0 2 * * *",
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
def test_only_temporary_failures_are_retried(states, stub, status, run, task, tries):
    assert states["states"][status] == {"run": run, "task": task, "tries": tries}
    assert stub.with_name("arguments").read_text().split() == ["run", "--pipeline=pneumonia_retraining", "--env=demo"]


def test_airflow_runs_the_kedro_command_of_the_project(states, project):
    assert states["states"]["real"] == {"run": "success", "task": "success", "tries": 1}
    assert (project / "data" / "demo" / "08_reporting" / "leaderboard.html").is_file()
