"""Where runs and models are kept: whether it can be used, and the addresses of its pages."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlparse

import mlflow
from filelock import FileLock

from cxr_pipeline.errors import UserError


def check_server(uri: str) -> None:
    """Check that runs and models can be kept at ``uri``, within seconds rather than MLflow's minutes.

    Args:
        uri: ``sqlite:///<path>`` or the address of an MLflow server; other databases are not tried.

    Raises:
        UserError: the server does not answer, the file cannot be written or is no database, or ``uri`` is
            a folder, which MLflow 3 no longer takes.
    """
    parts = urlparse(uri)
    if parts.scheme in ("http", "https"):
        problem = _problem_of_server(uri)
    elif parts.scheme == "sqlite":
        problem = _problem_of_file(Path(parts.path[1:]))
        if problem is None:
            _create(uri)
    elif parts.scheme in ("", "file"):
        problem = "it is a folder, which MLflow 3 no longer takes"
    else:
        problem = None
    if problem is not None:
        raise UserError(
            f"Runs and models cannot be kept in MLflow at {uri} (tracking_uri in conf/base/globals.yml, or the "
            f"environment variable MLFLOW_TRACKING_URI): {problem}. Correct the setting, or go on with a local file: "
            "MLFLOW_TRACKING_URI=sqlite:///mlflow.db before the same command."
        )


def _problem_of_server(uri: str) -> str | None:
    before = dict(os.environ)
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", **before, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    os.environ.update(patience)
    try:
        mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except mlflow.MlflowException as error:
        return f"no MLflow server answers there ({_root(error)})"
    finally:
        for name in patience.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    return None


def _problem_of_file(path: Path) -> str | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        if path.exists():
            with path.open("r+b"), closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA schema_version")
    except OSError as error:
        return f"the file cannot be written ({error.strerror})"
    except sqlite3.DatabaseError as error:
        return f"the file is no SQLite database that can be used ({error})"
    return None


def _create(uri: str) -> None:
    """Make the tables of a file that has none yet; of two runs that begin at once, one waits for the other."""
    with alone(uri):
        mlflow.MlflowClient(uri).search_experiments(max_results=1)


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Let no other run change what there is at ``uri``, where that is a file; a server sees to it itself.

    Args:
        uri: as for ``check_server``.
    """
    parts = urlparse(uri)
    if parts.scheme != "sqlite":
        yield
        return
    with FileLock(f"{parts.path[1:]}.lock"):
        yield


def _root(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def run_url(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Where a run is shown on the pages of an MLflow server; None where ``uri`` is no server's address.

    Example:
        >>> run_url("http://mlflow.example.org", "1", "ab12")
        'http://mlflow.example.org/#/experiments/1/runs/ab12'
    """
    return _page(uri, "experiments", experiment_id, "runs", run_id)


def version_url(uri: str, name: str, version: int) -> str | None:
    """Where a model version is shown; None where ``uri`` is no server's address."""
    return _page(uri, "models", name, "versions", str(version))


def _page(uri: str, *parts: str) -> str | None:
    """The address of a page, without the user and password that ``uri`` may hold."""
    server = urlparse(uri)
    if server.scheme not in ("http", "https"):
        return None
    host = server.netloc.rpartition("@")[2]
    return f"{server.scheme}://{host}{server.path.rstrip('/')}/#/" + "/".join(quote(part, safe="") for part in parts)
