import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import server


class Failing(BaseHTTPRequestHandler):
    """Answers as a server in trouble does."""

    def do_POST(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


class TestConnect:
    def refused(self, uri: str, found: str) -> None:
        with pytest.raises(UserError, match=found) as raised:
            tracking.connect(uri)
        message = str(raised.value)
        assert uri in message
        assert "tracking_uri in conf/base/globals.yml" in message
        assert "MLFLOW_TRACKING_URI=sqlite:///mlflow.db" in message

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> Iterator[None]:
        """Restore what a connection sets for the whole process."""
        for name in server._DEFAULTS:
            monkeypatch.setenv(name, "1")
            monkeypatch.delenv(name)
        uri = mlflow.get_tracking_uri()
        yield
        mlflow.set_tracking_uri(uri)

    def test_a_file_that_exists_or_can_be_created_is_used(self, store: Path, tmp_path: Path) -> None:
        for uri in (
            f"sqlite:///{store}/mlflow.db",
            f"sqlite:///{tmp_path}/new/mlflow.db",
            "postgresql://me@host/mlflow",
        ):
            tracking.connect(uri)
            assert mlflow.get_tracking_uri() == uri
        assert (tmp_path / "new" / "mlflow.db").exists()

    def test_a_message_has_no_password(self) -> None:
        uri = closed_port().replace("//", "//user:s3cret@")
        with pytest.raises(UserError, match=r"use MLflow at http://127\.0\.0\.1:\d+ ") as raised:
            tracking.connect(uri)
        assert "s3cret" not in str(raised.value)

    def test_a_closed_port(self) -> None:
        uri = closed_port()
        self.refused(uri, "no MLflow server answers there .*refused")

    def test_the_environment_decides_how_long_requests_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        uri = closed_port()
        with pytest.raises(UserError):
            tracking.connect(uri)
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
        with pytest.raises(MlflowException, match="refused") as raised:
            mlflow.MlflowClient(uri).search_experiments()
        assert server.is_unavailable(raised.value)

    def test_a_server_that_never_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            self.refused(f"http://127.0.0.1:{silent.getsockname()[1]}", "no MLflow server answers there .*timed out")

    def test_a_server_in_trouble(self) -> None:
        with HTTPServer(("127.0.0.1", 0), Failing) as failing:
            threading.Thread(target=failing.serve_forever, daemon=True).start()
            self.refused(f"http://127.0.0.1:{failing.server_port}", "no MLflow server answers there .*503")
            failing.shutdown()

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        self.refused(f"sqlite:///{tmp_path}/file/mlflow.db", "the file cannot be written")

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_text("no database\n" * 100)
        self.refused(f"sqlite:///{tmp_path}/mlflow.db", "not a usable SQLite database")

    @pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
    def test_a_folder(self, uri: str) -> None:
        self.refused(uri, "which MLflow 3 does not support")


REFUSED = MlflowException(f"403 Client Error: Forbidden for url: http://user:s3cret@host/{'api/' * 50}")


@pytest.mark.parametrize("text", [str(REFUSED), "x" * 170 + " http://user:s3cret-s3cret-s3cret-s3cret@host"])
def test_a_reason_has_no_password(text: str) -> None:
    reason = server.reason(MlflowException(text))
    assert "s3cret" not in reason
    assert "http://user:***@host" in reason


@pytest.mark.parametrize(
    "ask",
    [
        lambda: tracking.nest_run("a", "b"),
        lambda: tracking.end_killed("a"),
        lambda: tracking.load_classifier("mlflow-artifacts://user:s3cret@host/model"),
        lambda: tracking.resolve_version("models:/cxr-effusion/1"),
    ],
)
def test_a_refused_request_is_reported_without_the_password(ask, monkeypatch, caplog) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise REFUSED

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    for name in ("set_tag", "get_run", "get_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, name, refuse)
    try:
        ask()
        message = caplog.text
    except UserError as error:
        message = str(error)
    assert "403 Client Error: Forbidden for url: http://user:***@host" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://mlflow.example.org:5000", "http://mlflow.example.org:5000/#"),
        ("http://mlflow.example.org:5000/", "http://mlflow.example.org:5000/#"),
        ("https://host/mlflow/", "https://host/mlflow/#"),
        ("https://user:secret@host:1/mlflow", "https://host:1/mlflow/#"),
        ("https://host/mlflow/?token=secret", "https://host/mlflow/#"),
        ("sqlite:////tmp/mlflow.db", None),
        ("postgresql://user:secret@host/db", None),
        ("javascript://x", None),
    ],
)
def test_a_run_and_a_version_have_a_page_on_a_server_only(uri: str, page: str | None) -> None:
    assert tracking.run_url(uri, "7", "ab12") == (page and f"{page}/experiments/7/runs/ab12")
    assert tracking.version_url(uri, "cxr-a", 3) == (page and f"{page}/models/cxr-a/versions/3")


def test_names_cannot_change_the_address_of_a_page() -> None:
    expected = "http://host/#/models/cxr-%2F..%2F%22%3E%3C/versions/1"
    assert tracking.version_url("http://host", 'cxr-/../"><', 1) == expected
