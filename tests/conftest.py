"""What several tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


def copy_project(folder: Path) -> Path:
    """A project of its own in ``folder``: the configuration copied, the code linked, no data."""
    shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    (folder / ".telemetry").write_text("consent: false\n")
    (folder / "src").symlink_to(REPOSITORY / "src")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder, to run Kedro in."""
    return copy_project(tmp_path / "project" if (tmp_path / "project").mkdir() is None else tmp_path)


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
