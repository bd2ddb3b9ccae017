"""The demo with an MLflow server, and with one that is killed in the middle of the training and comes back."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.resolution.size=48,effusion.evaluation.replicates=200,"
    "effusion.training.epochs="
)
MODEL = "cxr-effusion-demo"


def arguments(pipeline: str, params: str) -> tuple[str, ...]:
    return ("run", "--env", "demo", f"--pipeline={pipeline}", "--params", params)


def words(*texts: str) -> str:
    return re.sub(r"\s+", " ", " ".join(texts))


def runs(client: mlflow.MlflowClient) -> list[Any]:
    """Those of the task's own pipeline, the newest first."""
    experiment = client.get_experiment_by_name(MODEL)
    asked = {"filter_string": "attributes.run_name = 'effusion'", "order_by": ["attributes.start_time DESC"]}
    return list(client.search_runs([experiment.experiment_id], **asked))


def epochs_at(server: Any) -> list[int]:
    """The epochs of the newest run that the database of a server holds."""
    newest = "SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT 1"
    query = f"SELECT step FROM metrics WHERE key = 'epoch/val_auc' AND run_uuid = ({newest}) ORDER BY step"
    with closing(server.database()) as database:
        return [step for (step,) in database.execute(query)]


@pytest.fixture(scope="module")
def server(mlflow_server, empty_database) -> Iterator[Any]:
    mlflow_server.empty(empty_database)
    yield mlflow_server


@pytest.fixture(scope="module")
def demo(tmp_path_factory, new_project, kedro, server) -> Path:
    """A project in which the demo has run once, with the server."""
    folder = new_project(tmp_path_factory.mktemp("demo") / "project")
    finished = kedro(folder, *arguments("effusion", f"{SMALL}2"), MLFLOW_TRACKING_URI=server.uri)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


@pytest.fixture(scope="module")
def client(server) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(server.uri)


def test_a_server_gets_what_a_file_gets(demo, client, server) -> None:
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert (run.data.params["training.epochs"], run.data.params["sources.phantoms.layout"]) == ("2", "phantoms")
    assert epochs_at(server) == [1, 2]
    metrics = json.loads((demo / "data/demo/08_reporting/effusion/metrics.json").read_text())
    assert run.data.metrics["test/auc"] == metrics["metrics"]["auc"]["value"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "report.html", "decision_rule.json", "figures", "lineage", "drift_profile.npz"} <= names
    assert client.get_model_version(MODEL, "1").run_id == run.info.run_id
    assert not list(demo.rglob("mlflow.db*")) + list(demo.rglob("mlartifacts"))
    assert not (demo / "data/demo/06_models/unsent").exists()


def test_new_images_are_scored_by_a_version_from_the_server(demo, kedro, server) -> None:
    images = demo / "data/demo/01_raw/phantoms/images"
    params = f"effusion.scoring.folder={images}"
    finished = kedro(demo, *arguments("effusion_scoring", params), MLFLOW_TRACKING_URI=server.uri)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    outputs = demo / "data/demo/07_model_output/effusion"
    scores = pd.read_parquet(outputs / "test_scores.parquet").set_index("image")["probability_effusion"]
    found = pd.read_csv(outputs / "predictions.csv").set_index("image")["probability"]
    pd.testing.assert_series_equal(found.loc[scores.index], scores, rtol=0, atol=1e-6, check_names=False)


@pytest.fixture(scope="module")
def killed(demo, server) -> dict[str, Any]:
    """A run whose server is killed in the middle of the training."""
    command = [sys.executable, "-m", "kedro", *arguments("effusion", f"{SMALL}8")]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.uri, "COLUMNS": "200"}
    printed = demo / "printed.txt"
    with printed.open("w") as file:
        process = subprocess.Popen(command, cwd=demo, env=environment, stdout=file, stderr=subprocess.STDOUT)
    before = epochs_at(server)
    while process.poll() is None and epochs_at(server) in (before, []):
        time.sleep(0.02)
    server.kill()
    at = time.time()
    code = process.wait(timeout=300)
    return {"code": code, "printed": words(printed.read_text()), "at": at, "seconds": time.time() - at}


def test_the_run_goes_on_and_says_at_its_end_what_was_not_sent(demo, killed, server) -> None:
    assert killed["code"] == 69, killed["printed"]
    assert "Traceback" not in killed["printed"]
    history = pd.read_csv(demo / "data/demo/08_reporting/effusion/history.csv")
    assert 0 < len(epochs_at(server)) < len(history)
    report = demo / "data/demo/08_reporting/effusion/report.html"
    assert report.stat().st_mtime > killed["at"]
    said = killed["printed"][killed["printed"].rindex("does not answer any more") :]
    assert "a version of cxr-effusion-demo" in said
    assert "kedro send --env demo" in said
    assert killed["seconds"] < 120


@pytest.fixture(scope="module")
def sent(demo, killed, kedro, server) -> "subprocess.CompletedProcess[str]":
    """The server is back, and what is left is sent."""
    server.start()
    return kedro(demo, "send", "--env", "demo", MLFLOW_TRACKING_URI=server.uri)


def test_what_was_kept_is_sent_and_the_run_is_whole(demo, sent, client, server) -> None:
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert "a version of cxr-effusion-demo" in words(sent.stdout)
    run, first = runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.params == {**first.data.params, "training.epochs": "8"}
    history = pd.read_csv(demo / "data/demo/08_reporting/effusion/history.csv")
    points = client.get_metric_history(run.info.run_id, "epoch/val_auc")
    assert [(point.step, point.value) for point in points] == list(
        zip(history["epoch"], history["val_auc"], strict=True)
    )
    assert set(first.data.metrics) <= set(run.data.metrics)
    assert set(first.data.tags) <= set(run.data.tags)
    listed = [{file.path for file in client.list_artifacts(each.info.run_id)} for each in (run, first)]
    assert listed[0] == listed[1]
    report = client.download_artifacts(run.info.run_id, "report.html")
    assert Path(report).read_bytes() == (demo / "data/demo/08_reporting/effusion/report.html").read_bytes()


def test_the_version_is_that_of_the_run_and_is_used(demo, sent, client) -> None:
    version = client.get_model_version(MODEL, "2")
    run, _ = runs(client)
    noted = json.loads((demo / "data/demo/06_models/effusion/model_version.json").read_text())
    assert (version.run_id, version.tags["digest"]) == (run.info.run_id, noted["digest"])
    assert noted == {
        "name": MODEL,
        "version": 2,
        "uri": f"models:/{MODEL}/2",
        **{k: noted[k] for k in ("run_id", "digest")},
    }
    assert noted["run_id"] == run.info.run_id
    assert "AUC" in version.description
    assert not list((demo / "data/demo/06_models/unsent").iterdir())
