"""Versions of the code and packages that produced a result."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "cxr_pipeline",
    "kedro",
    "mlflow",
    "tensorflow",
    "keras",
    "scikit-learn",
    "opencv-python-headless",
    "kornia-rs",
    "numpy",
    "pandas",
)


def git_commit() -> str:
    """Return the commit of the running code, with ``+changes`` if tracked files differ; ``unknown`` outside of git."""
    file = Path(__file__)
    try:
        # An installed package can lie inside the repository of another project, as its virtual environment does.
        _git("ls-files", "--error-unmatch", file.name, folder=file.parent)
        # Without tags, it describes a commit by its name.
        return _git("describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes", folder=file.parent)
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str, folder: Path) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603


def versions() -> dict[str, str]:
    """Return the git commit and the versions of Python and of every package that can change a result."""
    found = {"git commit": git_commit(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
