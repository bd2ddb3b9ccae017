"""The demo with an MLflow server, which is killed during training and started again."""

import json
import time
from contextlib import closing

import mlflow
import pandas as pd
import pytest
from demo_projects import FEW_PATIENTS, MODEL, arguments, data, reporting, succeeded, words

RUN = arguments("effusion", FEW_PATIENTS, "effusion.training.epochs=8")


def runs(client):
    """Return the runs of the pipeline ``effusion``, the newest first."""
    experiment = client.get_experiment_by_name(MODEL)
    query = {"filter_string": "tags.pipeline = 'effusion'", "order_by": ["attributes.start_time DESC"]}
    return list(client.search_runs([experiment.experiment_id], **query))


def epochs_at(server):
    """Return the duration of each epoch of the newest run, from the server's database."""
    newest = "SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT 1"
    query = f"SELECT step, value FROM metrics WHERE key = 'training/seconds' AND run_uuid = ({newest}) ORDER BY step"
    with closing(server.database()) as database:
        return dict(database.execute(query))


@pytest.fixture(scope="module")
def server(mlflow_server, empty_database):
    mlflow_server.empty(empty_database)
    yield mlflow_server


@pytest.fixture(scope="module")
def client(server):
    return mlflow.MlflowClient(server.uri)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, new_project, start_kedro, server):
    """A run whose server is killed during training."""
    folder = new_project(tmp_path_factory.mktemp("demo") / "project")
    process = start_kedro(folder, *RUN, MLFLOW_TRACKING_URI=server.uri)
    while process.poll() is None and not epochs_at(server):
        time.sleep(0.02)
    server.kill()
    started = time.monotonic()
    status = process.wait(timeout=300)
    ended = {"status": status, "output": words(process.printed()), "seconds": time.monotonic() - started}
    return ended | {"folder": folder, "epochs": epochs_at(server)}


def test_a_run_whose_server_is_killed_ends_soon_with_a_message(killed, server):
    assert killed["status"] == 69, killed["output"]
    assert killed["seconds"] < 120
    assert 0 < len(killed["epochs"]) < 8
    assert f"MLflow at {server.uri} does not answer" in killed["output"]
    assert "Run the same command again when MLflow answers" in killed["output"]
    assert "Traceback" not in killed["output"]


def test_a_run_without_a_server_does_not_start(killed, kedro, server):
    folder = killed["folder"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("data/**/*")}
    stopped = kedro(folder, *RUN, MLFLOW_TRACKING_URI=server.uri)
    assert stopped.returncode == 69
    assert f"Cannot use MLflow at {server.uri}" in words(stopped.stdout)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("data/**/*")} == before


@pytest.fixture(scope="module")
def resumed(killed, kedro, server):
    """The project after the same command, when the server was started again."""
    server.start()
    succeeded(kedro(killed["folder"], *RUN, MLFLOW_TRACKING_URI=server.uri))
    return killed["folder"]


def test_the_same_command_resumes_the_training_and_logs_all_epochs(killed, resumed, client, server):
    run, interrupted = runs(client)
    assert [run.info.status, interrupted.info.status] == ["FINISHED", "KILLED"]
    history = pd.read_csv(reporting(resumed) / "history.csv")
    assert epochs_at(server) == dict(zip(history["epoch"], history["seconds"], strict=True))
    assert list(epochs_at(server)) == list(range(1, 9))
    # A repeated epoch would have another duration.
    assert killed["epochs"].items() <= epochs_at(server).items()


def test_the_resumed_run_is_logged_to_the_server_completely(resumed, client):
    run = runs(client)[0]
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert run.data.params["training.epochs"] == "8"
    metrics = json.loads((reporting(resumed) / "metrics.json").read_text())
    assert run.data.metrics["test/auc"] == metrics["metrics"]["auc"]["value"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "report.html", "decision_rule.json", "figures", "lineage", "drift_profile.npz"} <= names
    (version,) = client.search_model_versions(f"name='{MODEL}'")
    recorded = json.loads((data(resumed) / "06_models/effusion/model_version.json").read_text())
    assert version.run_id == recorded["run_id"] == run.info.run_id
    report = (resumed / "data/demo/08_reporting/effusion/report.html").read_text()
    assert f'href="{recorded["run_url"]}"' in report
    assert recorded["run_url"].endswith(f"/runs/{version.run_id}")
    assert (int(version.version), version.tags["digest"]) == (recorded["version"], recorded["digest"])
    assert not list(resumed.rglob("mlflow.db*")) + list(resumed.rglob("mlartifacts"))
