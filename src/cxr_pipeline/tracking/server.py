"""Where runs and models are kept: whether it can be used, how long it is waited for, and the addresses of its pages."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlparse

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException, RestException
from requests import HTTPError

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.mappings import hide_passwords

_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
# Seconds for a look whether a server answers.
_LOOK = 10
# What a server answers that is in trouble, or does not know its user any more.
_REQUEST, _IN_TROUBLE = "API request to ", (401, 403, 408, 429)


def check_server(uri: str) -> None:
    """Check that runs and models can be kept at ``uri``, within seconds rather than MLflow's minutes.

    Args:
        uri: ``sqlite:///<path>`` or the address of an MLflow server; other databases are not tried.

    Raises:
        Unavailable: the server does not answer.
        UserError: the file cannot be written or is no database, or ``uri`` is a folder, which MLflow 3 no longer takes.
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
        failure = Unavailable if parts.scheme in ("http", "https") else UserError
        raise failure(
            f"Runs and models cannot be kept in MLflow at {without_password(uri)} (tracking_uri in "
            f"conf/base/globals.yml, or the environment variable MLFLOW_TRACKING_URI): {problem}. Correct the setting, "
            "or go on with a local file: MLFLOW_TRACKING_URI=sqlite:///mlflow.db before the same command."
        )


def _problem_of_server(uri: str) -> str | None:
    with patience(timeout=min(_LOOK, int(os.environ.get(_TIMEOUT, _LOOK))), retries=0):
        try:
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
        except MlflowException as error:
            return f"no MLflow server answers there ({reason(error)})"
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
    """Let no other run change what there is at ``uri``, where that is a file.

    On a server nothing is held back: it takes each request as a whole, but between two of them another run may change
    what the first has read.

    Args:
        uri: as for ``check_server``.
    """
    parts = urlparse(uri)
    if parts.scheme != "sqlite":
        yield
        return
    with FileLock(f"{parts.path[1:]}.lock"):
        yield


def answers(uri: str) -> bool:
    """Whether runs and models can be kept at ``uri`` just now; known within seconds."""
    return urlparse(uri).scheme not in ("http", "https") or _problem_of_server(uri) is None


@contextmanager
def patience(*, timeout: int, retries: int) -> Iterator[None]:
    """Wait for an answer of a server for ``timeout`` seconds, and ask again ``retries`` times, in this block."""
    before = {name: os.environ.get(name) for name in (_TIMEOUT, _RETRIES)}
    os.environ.update({_TIMEOUT: str(timeout), _RETRIES: str(retries)})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def is_away(error: BaseException) -> bool:
    """Whether an error says that a server does not answer or is in trouble, not that it refuses what it was sent.

    MLflow gives the status 500 to whatever has none, also to errors that no server had a part in.
    """
    if isinstance(error, HTTPError) and error.response is not None:
        status = error.response.status_code
    elif isinstance(error, RestException) or (isinstance(error, MlflowException) and _REQUEST in str(error)):
        status = int(error.get_http_status_code())
    else:
        return isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE"
    return status >= 500 or status in _IN_TROUBLE


def why_away(error: BaseException) -> str | None:
    """What a user is told of an error that says that MLflow is away; None for another."""
    if not is_away(error):
        return None
    return (
        f"MLflow at {without_password(mlflow.get_tracking_uri())} does not answer ({reason(error)}). What was computed "
        "is on disk. When it answers again, run the same command; it goes on from there."
    )


def reason(error: BaseException) -> str:
    """What lies at the bottom of an error of MLflow or of the network, in a line and without passwords.

    An error of the run that went before, and has nothing to do with it, is passed over.
    """
    bottom, found = error, error
    while (cause := found.__cause__ or found.__context__) is not None:
        found = cause
        if isinstance(found, OSError | MlflowException):
            bottom = found
    said: str = hide_passwords(str(bottom) or type(bottom).__name__)
    return said.splitlines()[0][:200]


def without_password(uri: str) -> str:
    """Leave out what only its user should know: user, password and parameters of an address.

    Example:
        >>> without_password("https://user:secret@mlflow.example.org/mlflow?token=secret")
        'https://mlflow.example.org/mlflow'
    """
    parts = urlparse(uri)
    if not parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], params="", query="", fragment="").geturl()


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
    if urlparse(uri).scheme not in ("http", "https"):
        return None
    return f"{without_password(uri).rstrip('/')}/#/" + "/".join(quote(part, safe="") for part in parts)
