import shutil
import socket
import sqlite3
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.tracking import runs, server, versions

# Nothing listens there, so that connections are refused.
CLOSED = "http://127.0.0.1:1"


@pytest.fixture
def silent(monkeypatch):
    """The address of a server that accepts connections and never answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def answering(status):
    """Run a server that answers every request with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(autouse=True)
def tracking_uri():
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def assert_refused(uri, problem):
    error = Unavailable if uri.startswith("http") else UserError
    with pytest.raises(error, match=problem) as raised:
        server.connect(uri)
    for part in (uri, "tracking_uri in conf/base/globals.yml", "MLFLOW_TRACKING_URI=sqlite:///mlflow.db"):
        assert part in str(raised.value)


def test_a_file_that_exists_or_can_be_created_is_used(store, tmp_path):
    new = tmp_path / "new" / "mlflow.db"
    for uri in (f"sqlite:///{store}/mlflow.db", f"sqlite:///{new}"):
        server.connect(uri)
        assert mlflow.get_tracking_uri() == uri
    assert new.exists()


def test_a_process_that_ends_while_it_creates_the_file_leaves_nothing_that_cannot_be_opened(tmp_path, monkeypatch):
    def stop(client, **_):
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow.MlflowClient, "search_experiments", stop)
        server.connect(uri)
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / ".mlflow-0123abcd.db").write_bytes(b"of a killed process")
    server.connect(uri)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_a_server_must_answer_and_give_access(silent):
    with answering(503) as failing:
        for uri, problem in ((CLOSED, "refused"), (silent, "timed out"), (failing, "503")):
            assert_refused(uri, f"no MLflow server answers there .*{problem}")
    message = r"refuses access \(status 401\)\. Set MLFLOW_TRACKING_USERNAME"
    with answering(401) as uri, pytest.raises(UserError, match=message) as raised:
        server.connect(uri)
    assert not isinstance(raised.value, Unavailable)


def test_a_file_must_be_a_database_that_can_be_written(tmp_path):
    (tmp_path / "file").write_text("no database\n" * 100)
    assert_refused(f"sqlite:///{tmp_path}/file/mlflow.db", "the file cannot be written")
    assert_refused(f"sqlite:///{tmp_path}/file", "not a usable SQLite database")


WITHOUT_SCHEME = ["127.0.0.1:5000", "localhost:5000/mlflow", "mlruns", "u:p@h:5000"]


@pytest.mark.parametrize("uri", [*WITHOUT_SCHEME, "mysql+pymysql://u:p@h/d", "postgresql://u:p@h:port/d"])
def test_a_server_needs_http_and_a_database_its_driver(uri, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    message = r"expected the address of a server, http://HOST:PORT, or of a database whose driver is installed \("
    with pytest.raises(UserError, match=message) as raised:
        server.connect(uri)
    assert "u:p" not in str(raised.value)


def test_a_file_that_another_process_has_locked_is_waited_for(store, monkeypatch):
    uri = f"sqlite:///{store}/mlflow.db"
    with closing(sqlite3.connect(store / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.5, other.rollback).start()
        server.connect(uri)
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(server, "_LOCKED_SECONDS", 0.1)
        with pytest.raises(Unavailable, match="another process has kept the file locked"):
            server.connect(uri)


REFUSED = MlflowException(f"400 Client Error: Bad Request for url: http://user:s3cret@host/{'api/' * 50}")


def test_a_reason_has_no_password_and_no_part_of_one():
    reason = server.reason(MlflowException("x" * 170 + " http://user:s3cret-s3cret-s3cret-s3cret@host"))
    assert reason.endswith("http://user:***@host")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: runs.nest_run("a", "b"),
        lambda: versions.load_classifier("mlflow-artifacts://user:s3cret@host/model"),
        lambda: versions.resolve_version("models:/cxr-effusion/1"),
    ],
)
def test_a_refused_request_is_reported_without_the_password(ask, monkeypatch, caplog):
    def refuse(*arguments, **named):
        raise REFUSED

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    for name in ("set_tag", "get_run", "get_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, name, refuse)
    assert server.unavailable_message(REFUSED) is None
    try:
        ask()
        message = caplog.text
    except UserError as error:
        message = str(error)
    assert "400 Client Error: Bad Request for url: http://user:***@host" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://mlflow.example.org:5000/", "http://mlflow.example.org:5000/#"),
        ("https://user:secret@host:1/mlflow/?token=secret", "https://host:1/mlflow/#"),
        ("postgresql://user:secret@host/db", None),
        ("javascript://x", None),
    ],
)
def test_only_a_server_has_pages(uri, page):
    assert server.run_url(uri, "7", "ab12") == (page and f"{page}/experiments/7/runs/ab12")
    hostile = 'cxr-/../"><'
    assert server.version_url(uri, hostile, 3) == (page and f"{page}/models/cxr-%2F..%2F%22%3E%3C/versions/3")


@pytest.fixture
def project(tmp_path, empty_database):
    """A project with a run that has an artifact and a logged model."""
    folder = tmp_path / "old" / "project_1"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlflow.db")
    connect_project(folder)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("cxr-t", artifact_location=str(folder / "mlartifacts"))
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "as it was", "note.txt")
    client.create_logged_model(experiment, name="m", source_run_id=run.info.run_id)
    return folder


def connect_project(folder):
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
    connect_project(new)
    assert f"were in {project}/mlartifacts and are now used from {new}/mlartifacts" in caplog.text
    assert note() == "as it was"
    (experiment,) = mlflow.search_experiments(filter_string="name = 'cxr-t'")
    run = mlflow.MlflowClient().create_run(experiment.experiment_id)
    (model,) = mlflow.search_logged_models([experiment.experiment_id], output_format="list")
    for location in (experiment.artifact_location, run.info.artifact_uri, model.artifact_location):
        assert location.replace("%20", " ").removeprefix("file://").startswith(f"{new}/mlartifacts")
    caplog.clear()
    connect_project(new)
    assert caplog.text == ""


def test_another_setting_does_not_hide_artifacts_that_are_where_they_were(project, tmp_path):
    (tmp_path / "empty").mkdir()
    server.connect(f"sqlite:///{project}/mlflow.db", artifacts=str(tmp_path / "empty"))
    assert note() == "as it was"
    # A run that exists in the original only is still read there.
    copy = tmp_path / "copy"
    shutil.copytree(project / "mlartifacts", copy / "mlartifacts")
    (experiment,) = mlflow.search_experiments(filter_string="name = 'cxr-t'")
    client = mlflow.MlflowClient()
    later = client.create_run(experiment.experiment_id).info
    client.log_text(later.run_id, "later", "note.txt")
    server.connect(f"sqlite:///{project}/mlflow.db", artifacts=str(copy / "mlartifacts"))
    assert client.get_run(later.run_id).info.artifact_uri == later.artifact_uri
    assert Path(mlflow.artifacts.download_artifacts(f"{later.artifact_uri}/note.txt")).read_text() == "later"
