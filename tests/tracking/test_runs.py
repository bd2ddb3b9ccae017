import json
from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pytest

from cxr_pipeline.tracking import runs

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")


@pytest.fixture
def start(tmp_path):
    def start(experiment="cxr-started", parent=None, **tags):
        return runs.start_run(
            experiment, name="n" * 300, folder="here", artifacts=str(tmp_path), parent=parent, tags=tags
        )

    yield start
    runs.end_active_run("FINISHED")


def unavailable(*arguments, **named):
    raise mlflow.MlflowException("API request to http://host failed with exception Connection refused")


def test_a_run_starts_in_a_new_or_deleted_experiment_with_its_own_artifacts(start, tmp_path):
    run_id = start("cxr-new", parent="p" * 32, env="demo", long="x" * 9000)
    assert runs.active_run_id() == run_id
    run = mlflow.get_run(run_id)
    experiment = mlflow.get_experiment(run.info.experiment_id)
    assert experiment.name == "cxr-new"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    location = str(tmp_path) if mlflow.get_tracking_uri().startswith("sqlite") else "mlflow-artifacts:/"
    assert run.info.artifact_uri.startswith(location)
    assert len(run.info.run_name) == 250
    assert {"env": "demo", "mlflow.parentRunId": "p" * 32}.items() <= run.data.tags.items()
    runs.end_active_run("FINISHED")
    # A deleted experiment is restored.
    deleted = mlflow.create_experiment("cxr-deleted")
    mlflow.MlflowClient().delete_experiment(deleted)
    assert mlflow.get_run(start("cxr-deleted")).info.experiment_id == deleted


def test_runs_that_start_at_once_share_an_experiment():
    def start(number):
        runs.start_run("cxr-shared", name=str(number), folder=str(number), artifacts="/a", parent=None, tags={})
        experiment_id = mlflow.active_run().info.experiment_id
        mlflow.end_run()
        return experiment_id

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(start, range(4)))) == 1
    runs.end_active_run("FINISHED")


def test_everything_is_logged_from_other_threads_too(start, tmp_path):
    (tmp_path / "report.html").write_text("report")
    run_id = start()

    def log(number):
        runs.log_params({f"p{number}.{other}": other for other in range(130)} | {f"long{number}": "x" * 7000})
        runs.log_epoch({"phase": "frozen", "epoch": number, "loss": np.float32(1 / number), "val_auc": float("nan")})
        runs.set_tags({f"t{number}": number})
        runs.log_artifact(tmp_path / "report.html", f"pages{number}")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(log, (1, 2)))
    found, client = mlflow.get_run(run_id), mlflow.MlflowClient()
    assert (len(found.data.params), found.data.params["p2.129"], found.data.params["long1"]) == (262, "129", "x" * 6000)
    assert (found.data.tags["t1"], found.data.tags["t2"]) == ("1", "2")
    assert set(found.data.metrics) == {"training/loss"}
    epochs = {(point.step, point.value) for point in client.get_metric_history(run_id, "training/loss")}
    assert epochs == {(1, 1.0), (2, 0.5)}
    assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/pages2/report.html") == "report"


def test_the_summary_is_logged_as_metrics_and_tags(metrics):
    with mlflow.start_run() as run:
        runs.log_summary(metrics, data_digest="d" * 64)
    logged = mlflow.get_run(run.info.run_id).data
    assert logged.metrics == {
        **{"test/auc": 0.875, "test/n_images": 40, "threshold/effusion": 0.375},
        **{"test_details/auc_low": 0.75, "test_details/auc_high": 0.9375, "test_details/brier": 0.125},
    }
    expected = {"task": "effusion", "images": "phantom", "test_digest": "f" * 64, "data_digest": "d" * 64}
    assert expected.items() <= logged.tags.items()


def test_the_images_of_a_run_are_inputs_with_their_digest_and_counts(start, metrics):
    run_id = start()
    runs.log_images("training", digest="a" * 64, n_images=80, counts={"patients": 9})
    runs.log_summary(metrics, data_digest="d" * 64)
    runs.log_summary(metrics, data_digest="d" * 64)
    found = mlflow.get_run(run_id).inputs.dataset_inputs
    inputs = {entry.dataset.name: (entry.dataset.digest, json.loads(entry.dataset.profile)) for entry in found}
    assert len(found) == 2
    assert inputs == {
        "training images": ("a" * 8, {"num_rows": 80, "patients": 9}),
        "test images": ("f" * 8, {"num_rows": 40, "patients": None, "effusion": 15}),
    }


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_active_run_ends_with_a_status(start, status):
    run_id = start()
    runs.end_active_run(status)
    runs.end_active_run("FINISHED")
    assert mlflow.get_run(run_id).info.status == status
    assert (runs.active_run_id(), runs.last_run_id()) == (None, run_id)


def test_ending_a_run_never_raises(start, monkeypatch, caplog):
    start()
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", unavailable)
    runs.end_active_run("KILLED")
    runs.end_active_run("FINISHED")
    assert caplog.text.count("Connection refused") == 1
    assert runs.active_run_id() is None


def test_an_earlier_run_can_be_nested_below_another(caplog):
    with mlflow.start_run() as first, mlflow.start_run(nested=True) as second:
        pass
    runs.nest_run(first.info.run_id, second.info.run_id)
    assert mlflow.get_run(first.info.run_id).data.tags["mlflow.parentRunId"] == second.info.run_id
    assert not caplog.records
    runs.nest_run("0" * 32, second.info.run_id)
    assert "Could not nest the MLflow run 0000" in caplog.text


def test_a_run_ends_the_killed_runs_of_its_folder_with_those_below_them_and_no_other(start):
    client, experiment = mlflow.MlflowClient(), mlflow.set_experiment("cxr-killed").experiment_id

    def create(**tags):
        return client.create_run(experiment, tags=tags).info.run_id

    killed = create(data_folder="here")
    child, done = (create(**{"mlflow.parentRunId": killed}) for _ in range(2))
    grandchild = create(**{"mlflow.parentRunId": child})
    elsewhere = create(data_folder="elsewhere")
    client.set_terminated(done, "FAILED")
    current = start("cxr-killed")
    states = [client.get_run(run).info.status for run in (killed, child, grandchild, done, elsewhere, current)]
    assert states == ["KILLED", "KILLED", "KILLED", "FAILED", "RUNNING", "RUNNING"]
