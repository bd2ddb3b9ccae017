"""Fixtures of the tests of tracking."""

import shutil
import time

import mlflow
import pytest


@pytest.fixture(scope="module", autouse=True)
def store(request, tmp_path_factory, empty_database):
    """The folder of an empty MLflow with the experiment ``tests``; the parameter is ``file`` or ``server``."""
    if getattr(request, "param", "file") == "server":
        server = request.getfixturevalue("mlflow_server")
        folder, location = server.folder, None
        mlflow.set_tracking_uri(server.uri)
        server.empty(empty_database)
    else:
        folder = tmp_path_factory.mktemp("store")
        location = str(folder / "artifacts")
        shutil.copy(empty_database, folder / "mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("tests", artifact_location=location)
    mlflow.set_experiment("tests")
    yield folder
    mlflow.set_tracking_uri(None)


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
