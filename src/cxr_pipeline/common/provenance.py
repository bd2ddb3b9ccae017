"""What a result was made with: versions of packages and of this code."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "cxr_pipeline",
    "kedro",
    "kedro-mlflow",
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
    """The commit of the code that runs, with ``+changes`` if files differ from it; ``unknown`` outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", folder=folder)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str, folder: Path) -> str:
    called = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return called.stdout.strip()


def versions() -> dict[str, str]:
    """Version of Python and of every package that can change a result, and the commit of this code."""
    found = {"git commit": git_commit(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
