"""What several tests share."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from kedro_process import KedroProcess

from cxr_pipeline.experiments.task_run import TaskRun

# No deadlines, since the first example pays for imports, and the same examples on every machine.
settings.load_profile("ci")

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["KEDRO_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("MLFLOW_TRACKING_URI", None)

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: of files that run side by side the longest must not be the last."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public images, beside the repository; they are no part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not part of the project; they are looked for in {folder}")
    return folder


@pytest.fixture(scope="session")
def new_project() -> Callable[[Path], Path]:
    """Make a project of its own in a folder: configuration and code copied, no data."""

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
        (folder / "conf" / "local").mkdir()
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        (folder / ".telemetry").write_text("consent: false\n")
        shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        return folder

    return make


@pytest.fixture
def project(new_project: Callable[[Path], Path], tmp_path: Path) -> Path:
    """An empty project folder, to run Kedro in."""
    return new_project(tmp_path / "project")


@pytest.fixture
def start_kedro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KedroProcess]]:
    """Start the kedro command, as ``start_kedro(folder, "run", "--env", "demo", NAME="value")``; killed if left running."""
    started: list[KedroProcess] = []

    def start(folder: Path, *arguments: str, **environment: str) -> KedroProcess:
        output = tmp_path_factory.mktemp("printed") / "output.txt"
        started.append(KedroProcess(folder, *arguments, output=output, **environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


@pytest.fixture
def current_run(tmp_path: Path) -> TaskRun:
    """The run of a task in a folder of the test."""
    return TaskRun(
        task="effusion",
        project=str(tmp_path),
        cwd=str(tmp_path),
        conf_source=str(tmp_path / "conf"),
        env="demo",
        runtime_params={"raw": "/r"},
        parameters={},
        tracking_uri="sqlite://",
        run_id="parent",
    )


@pytest.fixture(scope="session")
def kedro(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Call the kedro command as a user does: ``kedro(folder, "run", "--env", "demo")``."""

    def call(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        output = tmp_path_factory.mktemp("printed") / "output.txt"
        process = KedroProcess(folder, *arguments, output=output, **environment)
        status = process.wait()
        return subprocess.CompletedProcess(["kedro", *arguments], status, process.printed(), process.printed())

    return call


class MlflowServer:
    """An ``mlflow server`` of this machine: SQLite, and artifacts that go through it.

    Args:
        folder: of its database and artifacts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, at the same port and on the same database as before, and wait until it answers."""
        options = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "workers": "1",
            "backend-store-uri": f"sqlite:///{self.folder}/mlflow.db",
            "artifacts-destination": str(self.folder / "artifacts"),
        }
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self._is_healthy():
            assert self._process.poll() is None, (self.folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def empty(self, empty_database: Path) -> None:
        """Forget what earlier tests left, while it is up."""
        with closing(sqlite3.connect(empty_database)) as source, closing(self.database()) as target:
            source.backup(target)

    def database(self) -> sqlite3.Connection:
        """Its database, which can be read whether it is up or not."""
        return sqlite3.connect(self.folder / "mlflow.db")

    def kill(self) -> None:
        """Kill it with all its processes, as a power cut does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which it takes seconds to make."""
    import mlflow

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    """A server for all tests that want one. Who kills it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    yield server
    server.kill()
