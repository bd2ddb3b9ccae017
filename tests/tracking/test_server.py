import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import sending, server


class Failing(BaseHTTPRequestHandler):
    """Answers as a server in trouble does."""

    def do_POST(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class TestCheckServer:
    def refused(self, uri: str, found: str) -> None:
        with pytest.raises(UserError, match=found) as raised:
            tracking.check_server(uri)
        message = str(raised.value)
        assert uri in message
        assert "tracking_uri in conf/base/globals.yml" in message
        assert "MLFLOW_TRACKING_URI=sqlite:///mlflow.db" in message

    def test_a_file_that_is_there_or_can_be_made_will_do(self, store: Path, tmp_path: Path) -> None:
        tracking.check_server(f"sqlite:///{store}/mlflow.db")
        tracking.check_server(f"sqlite:///{tmp_path}/new/mlflow.db")
        tracking.check_server("postgresql://nobody@localhost/mlflow")
        assert (tmp_path / "new" / "mlflow.db").exists()

    def test_a_password_is_not_said(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            uri = f"http://user:s3cret@127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UserError, match=r"in MLflow at http://127\.0\.0\.1:\d+ ") as raised:
            tracking.check_server(uri)
        assert "s3cret" not in str(raised.value)

    def test_a_closed_port(self) -> None:
        before = dict(os.environ)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        self.refused(f"http://127.0.0.1:{port}", "no MLflow server answers there .*refused")
        assert dict(os.environ) == before

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
        self.refused(f"sqlite:///{tmp_path}/mlflow.db", "no SQLite database that can be used")

    @pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
    def test_a_folder(self, uri: str) -> None:
        self.refused(uri, "which MLflow 3 no longer takes")


REFUSED = MlflowException(f"403 Client Error: Forbidden for url: http://user:s3cret@host/{'api/' * 50}")


@pytest.mark.parametrize("said", [str(REFUSED), "x" * 170 + " http://user:s3cret-s3cret-s3cret-s3cret@host"])
def test_a_reason_has_no_password(said: str) -> None:
    reason = server.reason(MlflowException(said))
    assert "s3cret" not in reason
    assert "http://user:***@host" in reason


@pytest.mark.parametrize(
    "tell",
    [
        lambda: tracking.log_epoch({"epoch": 1, "loss": 0.5}),
        lambda: tracking.nest_run("a", "b"),
        lambda: tracking.end_killed("a"),
        lambda: tracking.load_classifier("mlflow-artifacts://user:s3cret@host/model"),
        lambda: tracking.resolve_version("models:/cxr-effusion/1"),
    ],
)
def test_what_a_server_refuses_is_told_without_the_password(tell, monkeypatch, caplog) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise REFUSED

    monkeypatch.setattr(sending, "_deliver", refuse)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    for name in ("set_tag", "get_run", "get_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, name, refuse)
    try:
        tell()
        told = caplog.text
    except UserError as error:
        told = str(error)
    assert "403 Client Error: Forbidden for url: http://user:***@host" in told
    assert "s3cret" not in told


class TestPages:
    @pytest.mark.parametrize("uri", ["http://mlflow.example.org:5000", "http://mlflow.example.org:5000/"])
    def test_a_run_and_a_version_have_a_page_on_a_server(self, uri: str) -> None:
        pages = "http://mlflow.example.org:5000/#"
        assert tracking.run_url(uri, "7", "ab12") == f"{pages}/experiments/7/runs/ab12"
        assert tracking.version_url(uri, "cxr-effusion", 3) == f"{pages}/models/cxr-effusion/versions/3"

    def test_a_server_may_live_below_a_path(self) -> None:
        assert tracking.run_url("https://host/mlflow/", "7", "ab") == "https://host/mlflow/#/experiments/7/runs/ab"

    def test_the_password_stays_where_it_is(self) -> None:
        url = tracking.run_url("https://user:secret@host:1/mlflow", "7", "ab")
        assert url == "https://host:1/mlflow/#/experiments/7/runs/ab"

    def test_no_token_comes_along(self) -> None:
        assert tracking.run_url("https://host/mlflow/?token=secret", "7", "ab") == (
            "https://host/mlflow/#/experiments/7/runs/ab"
        )

    def test_names_cannot_leave_their_place(self) -> None:
        assert tracking.version_url("http://host", 'cxr-/../"><', 1) == (
            "http://host/#/models/cxr-%2F..%2F%22%3E%3C/versions/1"
        )

    @pytest.mark.parametrize("uri", ["sqlite:////tmp/mlflow.db", "postgresql://user:secret@host/db", "javascript://x"])
    def test_a_database_has_no_pages(self, uri: str) -> None:
        assert tracking.run_url(uri, "7", "ab") is None
        assert tracking.version_url(uri, "cxr-effusion", 3) is None
