"""What several tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines, since the first example pays for imports, and the same examples on every machine.
settings.load_profile("ci")

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["KEDRO_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("MLFLOW_TRACKING_URI", None)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public films, beside the repository; they are no part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real films are not part of the project; they are looked for in {folder}")
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


@pytest.fixture(scope="session")
def kedro() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Call the kedro command as a user does: ``kedro(folder, "run", "--env", "demo")``."""

    def call(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=folder,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return call
