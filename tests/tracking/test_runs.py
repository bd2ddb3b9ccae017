import mlflow
import numpy as np
import pytest

from cxr_pipeline import tracking
from cxr_pipeline.evaluation.evaluate import flatten_metrics

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")

METRICS = {
    "task": "effusion",
    "kind": "binary",
    "split": "test",
    "phantom": True,
    "images_digest": "f" * 64,
    "n_images": 40,
    "n_patients": None,
    "prevalence": 0.25,
    "thresholds": {"effusion": 0.375},
    "metrics": {
        "auc": {"value": 0.875, "low": 0.75, "high": 0.9375},
        "precision": {"value": None, "low": None, "high": None},
    },
    "per_class": {"effusion": {"f1": {"value": 0.5, "low": 0.25, "high": float("nan")}}},
}


def test_metrics_of_several_classes_are_flattened_by_class() -> None:
    metrics = {
        **METRICS,
        "prevalence": {"No Finding": 0.5, "Pleural_Thickening": 0.25},
        "thresholds": {"No Finding": 0.5, "Pleural_Thickening": 0.125},
        "metrics": {"auc": {"value": 0.75, "low": None, "high": None}},
        "per_class": {
            "No Finding": {"auc": {"value": 0.875, "low": None, "high": None}},
            "Pleural_Thickening": {"auc": {"value": None, "low": None, "high": None}},
        },
        "majority": {"class": "No Finding", "accuracy": 0.5},
        "policies": [{"policy": {"rule": "youden"}}],
    }
    flat = flatten_metrics(metrics)
    assert flat == {
        "test/n_images": 40,
        "threshold/No Finding": 0.5,
        "threshold/Pleural_Thickening": 0.125,
        "test/auc": 0.75,
        "test/No Finding/auc": 0.875,
    }
    with mlflow.start_run() as run:
        tracking.log_summary(metrics, data_digest="d" * 64)
    assert mlflow.get_run(run.info.run_id).data.metrics == flat


def test_epochs_and_summary_arrive_in_the_active_run() -> None:
    with mlflow.start_run() as run:
        tracking.log_epoch({"phase": "frozen", "epoch": 1, "loss": 0.5, "val_auc": float("nan")})
        tracking.log_epoch({"phase": "fine_tuning", "epoch": 2, "loss": np.float32(0.25), "val_auc": 0.75})
        tracking.log_summary(METRICS, data_digest="d" * 64)
    logged = mlflow.get_run(run.info.run_id).data.metrics
    assert logged == {"epoch/loss": 0.25, "epoch/val_auc": 0.75, **flatten_metrics(METRICS)}
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "epoch/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize(("phantom", "images"), [(True, "phantom"), (False, "real")])
def test_a_run_says_on_which_images_it_was_measured(phantom: bool, images: str) -> None:
    with mlflow.start_run() as run:
        tracking.log_summary({**METRICS, "phantom": phantom}, data_digest="d" * 64)
    tags = mlflow.get_run(run.info.run_id).data.tags
    expected = {"task": "effusion", "images": images, "test_digest": "f" * 64, "data_digest": "d" * 64}
    assert {name: tags.get(name) for name in expected} == expected


def test_without_a_run_nothing_is_logged() -> None:
    before = len(mlflow.search_runs())
    tracking.log_epoch({"epoch": 1, "loss": 0.5})
    tracking.log_summary(METRICS, data_digest="d" * 64)
    assert len(mlflow.search_runs()) == before


def test_a_server_that_goes_away_does_not_end_a_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise mlflow.MlflowException("the server is gone")

    with mlflow.start_run():
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fail)
        tracking.log_epoch({"epoch": 7, "loss": 0.5})
        tracking.log_summary(METRICS, data_digest="d" * 64)
    assert "step 7" in caplog.text
    assert "step 0" in caplog.text
    assert "the server is gone" in caplog.text


def test_a_run_of_earlier_can_be_laid_below_another(store, caplog: pytest.LogCaptureFixture) -> None:
    with mlflow.start_run() as first:
        pass
    with mlflow.start_run() as second:
        pass
    tracking.nest_run(first.info.run_id, second.info.run_id)
    assert mlflow.get_run(first.info.run_id).data.tags["mlflow.parentRunId"] == second.info.run_id
    assert tracking.last_run_id() == second.info.run_id
    assert not caplog.records
    tracking.nest_run("0" * 32, second.info.run_id)
    assert "could not lay the run" in caplog.text


def test_the_run_of_a_killed_job_is_ended_with_those_below_it_and_no_other() -> None:
    client, experiment = mlflow.MlflowClient(), mlflow.get_experiment_by_name("tests").experiment_id
    killed = client.create_run(experiment).info.run_id
    below = {"mlflow.parentRunId": killed}
    child, done = (client.create_run(experiment, tags=below).info.run_id for _ in range(2))
    stranger = client.create_run(experiment).info.run_id
    client.set_terminated(done, "FAILED")
    tracking.end_killed(killed)
    states = [client.get_run(run).info.status for run in (killed, child, done, stranger)]
    assert states == ["KILLED", "KILLED", "FAILED", "RUNNING"]


def test_the_run_of_a_killed_job_that_is_gone_is_only_warned_about(caplog) -> None:
    tracking.end_killed("0" * 32)
    assert "could not end the run 0000" in caplog.text


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_the_active_run_is_ended_with_a_status(status: str) -> None:
    run = mlflow.start_run()
    assert tracking.end_active_run(status)
    assert mlflow.active_run() is None
    assert mlflow.get_run(run.info.run_id).info.status == status
    assert tracking.end_active_run("FINISHED")


def test_ending_a_run_never_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*arguments: object) -> None:
        raise mlflow.MlflowException("the server is gone")

    mlflow.start_run()
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", fail)
    assert not tracking.end_active_run("KILLED")
    assert "the server is gone" in caplog.text
    assert mlflow.active_run() is None
