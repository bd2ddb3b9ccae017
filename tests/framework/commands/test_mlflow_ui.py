import subprocess
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession

from cxr_pipeline.cli import cli
from cxr_pipeline.common.errors import Unavailable
from cxr_pipeline.tracking import server


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The pages and server commands that were opened."""
    calls: list[object] = []
    monkeypatch.setattr(click, "launch", calls.append)
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 3)
    return calls


@pytest.fixture
def tracking_uri(monkeypatch: pytest.MonkeyPatch):
    def connect(uri: str) -> None:
        if "stopped" in uri:
            raise Unavailable(f"Cannot use MLflow at {uri}")

    monkeypatch.setattr(server, "connect", connect)

    def configure(uri: str) -> None:
        def create(env: str | None) -> SimpleNamespace:
            assert env == "demo"
            loader = {"globals": {"tracking_uri": uri}}
            return SimpleNamespace(load_context=lambda: SimpleNamespace(config_loader=loader))

        monkeypatch.setattr(KedroSession, "create", create)

    return configure


def test_runs_in_a_file_are_served(opened, tracking_uri) -> None:
    tracking_uri("sqlite:///mlflow.db")
    ended = CliRunner().invoke(cli, ["mlflow", "ui", "--env", "demo", "--port", "5050"])
    assert ended.exit_code == 3
    ((_, *command),) = opened
    expected = "-m mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5050"
    assert " ".join(command) == expected


def test_the_page_of_a_server_is_opened(opened, tracking_uri) -> None:
    tracking_uri("http://mlflow.example.org")
    assert CliRunner().invoke(cli, ["mlflow", "ui", "--env", "demo"]).exit_code == 0
    assert opened == ["http://mlflow.example.org"]


def test_the_page_of_a_stopped_server_is_not_opened(opened, tracking_uri) -> None:
    tracking_uri("http://stopped")
    ended = CliRunner().invoke(cli, ["mlflow", "ui", "--env", "demo"])
    assert (ended.exit_code, opened) == (69, [])
    assert "Cannot use MLflow at http://stopped" in ended.output
