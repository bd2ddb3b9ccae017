import subprocess
import sys
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession

from cxr_pipeline.cli import cli
from cxr_pipeline.common.errors import Unavailable
from cxr_pipeline.tracking import experiments, server

SERVE = "-m mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5050"


@pytest.mark.parametrize(
    ("uri", "status", "opened"),
    [
        ("sqlite:///mlflow.db", 3, [[sys.executable, *SERVE.split()]]),
        ("http://mlflow.example.org", 0, ["http://mlflow.example.org"]),
        ("http://stopped", 69, []),
    ],
)
def test_a_file_is_served_and_the_page_of_a_running_server_is_opened(monkeypatch, uri, status, opened):
    calls = []

    def connect(uri, *, artifacts):
        if "stopped" in uri:
            raise Unavailable(f"Cannot use MLflow at {uri}")

    def create(env):
        assert env == "demo"
        loader = {"globals": {"tracking_uri": uri, "artifacts": "mlartifacts"}}
        return SimpleNamespace(load_context=lambda: SimpleNamespace(config_loader=loader))

    monkeypatch.setattr(click, "launch", calls.append)
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 3)
    monkeypatch.setattr(server, "connect", connect)
    monkeypatch.setattr(experiments, "pages_of_runs", lambda address: {"cxr-effusion": f"{address}/#/experiments/1"})
    monkeypatch.setattr(KedroSession, "create", create)
    ended = CliRunner().invoke(cli, ["mlflow", "ui", "--env", "demo", "--port", "5050"])
    assert ended.exit_code == status
    assert ("Cannot use MLflow at http://stopped" in ended.output) == (status == 69)
    assert calls == opened
    address = "http://127.0.0.1:5050" if uri.startswith("sqlite") else uri
    assert (f"cxr-effusion: {address}/#/experiments/1" in ended.output) == (status != 69)
