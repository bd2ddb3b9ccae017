"""Servers of MLflow in processes of their own."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path


def answers(url: str) -> bool:
    """Return whether a page is there."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


class MlflowProcess:
    """A command of MLflow that serves something at ``uri``, always on the same port."""

    def __init__(self, folder: Path, command: tuple[str, ...], healthy: str, environment: Mapping[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.folder, self._command, self._healthy, self._environment = folder, command, healthy, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *self._command, "--port", str(self._port)],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not answers(f"{self.uri}/{self._healthy}"):
            assert self._process.poll() is None, (self.folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill all processes of the server, like a power failure."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class MlflowServer(MlflowProcess):
    """A local ``mlflow server`` with SQLite and proxied artifacts in a folder."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        self._database = folder / "mlflow.db"
        shutil.copy(empty_database, self._database)
        stores = (f"--backend-store-uri=sqlite:///{self._database}", f"--artifacts-destination={folder / 'artifacts'}")
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        super().__init__(folder, ("server", "--host=127.0.0.1", "--workers=1", *stores), "health", environment)

    def empty(self, empty_database: Path) -> None:
        """Remove the runs of earlier tests from the running server."""
        with closing(sqlite3.connect(empty_database)) as source, closing(self.database()) as target:
            source.backup(target)

    def database(self) -> sqlite3.Connection:
        """Open the database, which also works while the server is down."""
        return sqlite3.connect(self._database)
