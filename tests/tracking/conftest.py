"""Fixtures of the tests of tracking."""

import time

import mlflow
import pytest
from stub_models import mlflow_file


@pytest.fixture(scope="module", autouse=True)
def store(request, tmp_path_factory, empty_database):
    """The folder of an empty MLflow with the experiment ``tests``; the parameter is ``file`` or ``server``."""
    if getattr(request, "param", "file") == "file":
        folder = tmp_path_factory.mktemp("store")
        with mlflow_file(folder):
            yield folder
    else:
        server = request.getfixturevalue("mlflow_server")
        server.empty(empty_database)
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("tests")
        yield server.folder
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def metrics():
    """The metrics of a model on phantoms."""
    measures = {"auc": {"value": 0.875, "low": 0.75, "high": 0.9375}, "precision": {"value": None}}
    measures["brier"] = {"value": 0.125, "low": None, "high": None}
    document = {"task": "effusion", "split": "test", "phantom": True, "images_digest": "f" * 64, "n_images": 40}
    per_class = {"per_class": {"effusion": measures}, "support": {"effusion": {"n_positive": 15}}}
    return {**document, "n_patients": None, "thresholds": {"effusion": 0.375}, "metrics": measures, **per_class}


@pytest.fixture
def new_model():
    """Register a model with a number of versions and no alias, and return its name."""

    def register(n_versions):
        client = mlflow.MlflowClient()
        name = client.create_registered_model(f"cxr-{time.time_ns()}").name
        for _ in range(n_versions):
            client.create_model_version(name, source="s3://nothing/nothing")
        return name

    return register
