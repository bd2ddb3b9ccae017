"""Fixtures of several folders of tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from demo_projects import FEW_PATIENTS, arguments
from kedro_process import KedroProcess
from mlflow_servers import MlflowServer

from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.experiments.task_run import TaskRun

# No deadlines, since the first example pays for imports, and the same examples on every machine.
settings.load_profile("ci")

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["KEDRO_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("MLFLOW_TRACKING_URI", None)

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put integration tests first: the longest file must not be the last to start."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real public images beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are missing; expected them in {folder}")
    return folder


@pytest.fixture(scope="session")
def new_project() -> Callable[[Path], Path]:
    """Copy configuration and code, but no data, into a new project folder."""

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
    """A new project folder without data."""
    return new_project(tmp_path / "project")


@pytest.fixture(scope="session")
def start_kedro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KedroProcess]]:
    """Start the kedro command: ``start_kedro(folder, "run", "--env", "demo", NAME="value")``."""
    started: list[KedroProcess] = []

    def start(folder: Path, *arguments: str, **environment: str) -> KedroProcess:
        output = tmp_path_factory.mktemp("printed") / "output.txt"
        started.append(KedroProcess(folder, *arguments, output=output, **environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def kedro(start_kedro: Callable[..., KedroProcess]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the kedro command to its end: ``kedro(folder, "run", "--env", "demo")``."""

    def call(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = start_kedro(folder, *arguments, **environment)
        return subprocess.CompletedProcess(["kedro", *arguments], process.wait(), process.printed())

    return call


@pytest.fixture(scope="session")
def browser():
    """A browser without a window; tests that use it are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install axe-playwright-python")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    with sync_api.sync_playwright() as play:
        yield play.chromium.launch(executable_path=program, args=["--no-sandbox"])


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a new key for the ids of patients."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert key_fingerprint(tmp_path / "key", make=True)
    return tmp_path / "key"


@pytest.fixture
def current_run(tmp_path: Path) -> TaskRun:
    """A task run whose folders are in ``tmp_path``."""
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


class Demo(NamedTuple):
    """A project in which a small demo run has finished, with the arguments of the kedro command and its output."""

    folder: Path
    command: tuple[str, ...]
    printed: str


@pytest.fixture(scope="session")
def demo(
    tmp_path_factory: pytest.TempPathFactory,
    new_project: Callable[[Path], Path],
    kedro: Callable[..., "subprocess.CompletedProcess[str]"],
) -> Demo:
    """One finished demo run for all test processes. Tests that write to the project use `demo_copy`."""
    # A network without pretrained weights takes none, whatever model.weights says.
    secret = "effusion.tuning.storage=postgresql+psycopg://user:s3cret-word@host/studies"
    command = arguments("effusion", "effusion.model.weights=imagenet", FEW_PATIENTS, secret)
    # The folder of a test process of pytest-xdist is below that of all.
    shared = tmp_path_factory.getbasetemp() / (".." if "PYTEST_XDIST_WORKER" in os.environ else "") / "demo"
    folder, printed = shared.resolve() / "project", shared / "printed.txt"
    with FileLock(f"{shared}.lock"):
        if not printed.exists():
            finished = kedro(new_project(folder), *command)
            assert finished.returncode == 0, finished.stdout
            printed.write_text(finished.stdout)
    return Demo(folder, command, printed.read_text())


@pytest.fixture
def demo_copy(demo: Demo, tmp_path: Path) -> Demo:
    """A copy of the demo project."""
    shutil.copytree(demo.folder, tmp_path / "demo")
    return demo._replace(folder=tmp_path / "demo")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database."""
    from stub_models import empty_mlflow

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    file.write_bytes(empty_mlflow())
    return file


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    """One server per test process. A test that kills it must start it again."""
    server = MlflowServer(tmp_path_factory.mktemp("server"), empty_database)
    server.start()
    yield server
    server.kill()
