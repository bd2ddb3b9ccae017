"""A project that is moved or copied with its MLflow file and artifacts."""

import shutil
from pathlib import Path

import mlflow
import pytest

from cxr_pipeline.tracking import server


@pytest.fixture
def project(tmp_path, empty_database):
    """A project with a run that has an artifact and a logged model."""
    folder = tmp_path / "old" / "project_1"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlflow.db")
    connect(folder)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("cxr-t", artifact_location=str(folder / "mlartifacts"))
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "as it was", "note.txt")
    client.create_logged_model(experiment, name="m", source_run_id=run.info.run_id)
    return folder


@pytest.fixture(autouse=True)
def tracking_uri():
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def connect(folder):
    server.connect(f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "mlartifacts"))


def note():
    (experiment,) = mlflow.search_experiments(filter_string="name = 'cxr-t'")
    (run,) = mlflow.search_runs([experiment.experiment_id], output_format="list")
    return Path(mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/note.txt")).read_text()


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_the_artifacts_of_a_moved_or_copied_project_are_its_own(project, tmp_path, move, caplog):
    new = tmp_path / "new place" / "project"
    move(str(project), str(new))
    if project.exists():
        (next(project.glob("mlartifacts/*/artifacts/note.txt"))).write_text("changed in the original")
    else:
        project.parent.rmdir()
    connect(new)
    assert f"were in {project}/mlartifacts and are now used from {new}/mlartifacts" in caplog.text
    assert note() == "as it was"
    (experiment,) = mlflow.search_experiments(filter_string="name = 'cxr-t'")
    run = mlflow.MlflowClient().create_run(experiment.experiment_id)
    (model,) = mlflow.search_logged_models([experiment.experiment_id], output_format="list")
    for location in (experiment.artifact_location, run.info.artifact_uri, model.artifact_location):
        assert location.replace("%20", " ").removeprefix("file://").startswith(f"{new}/mlartifacts")
    caplog.clear()
    connect(new)
    assert caplog.text == ""


def test_another_setting_does_not_hide_artifacts_that_are_where_they_were(project, tmp_path):
    (tmp_path / "empty").mkdir()
    server.connect(f"sqlite:///{project}/mlflow.db", artifacts=str(tmp_path / "empty"))
    assert note() == "as it was"


def test_a_run_that_exists_in_the_original_only_is_still_read_there(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project / "mlartifacts", copy / "mlartifacts")
    (experiment,) = mlflow.search_experiments(filter_string="name = 'cxr-t'")
    client = mlflow.MlflowClient()
    later = client.create_run(experiment.experiment_id).info
    client.log_text(later.run_id, "later", "note.txt")
    server.connect(f"sqlite:///{project}/mlflow.db", artifacts=str(copy / "mlartifacts"))
    assert client.get_run(later.run_id).info.artifact_uri == later.artifact_uri
    assert Path(mlflow.artifacts.download_artifacts(f"{later.artifact_uri}/note.txt")).read_text() == "later"
