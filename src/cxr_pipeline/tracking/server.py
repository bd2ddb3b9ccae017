"""The MLflow server or database: connect to it, recognise when it is unavailable, and address its pages."""

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException, RestException
from requests import HTTPError
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import hide_passwords

# Set when the package is imported, unless the user has set them.
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
# How long MLflow waits for a SQLite file that another process has locked.
_LOCKED_SECONDS = 20
_ADVICE = "Correct the setting, or use a local file: MLFLOW_TRACKING_URI=sqlite:///mlflow.db before the same command"
# Client errors for which a retry may succeed: expired credentials, request timeout, too many requests.
_RETRY_LATER = (401, 403, 408, 429)
# Tables with the location of an experiment, and of its runs and models.
_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}

_log = logging.getLogger(__name__)


def is_server(uri: str) -> bool:
    """Return whether ``uri`` is the address of an MLflow server, not of a database."""
    return urlparse(uri).scheme in ("http", "https")


def connect(uri: str, *, artifacts: str | None = None) -> None:
    """Use the MLflow server or database at ``uri`` in this process, after checking within 30 seconds that it is usable.

    ``uri`` is ``sqlite:///<path>``, the address of an MLflow server, or another database, of which only the driver is
    checked. ``artifacts`` is the folder of artifacts that a SQLite file refers to, even after the project was moved.

    Raises:
        Unavailable: The server does not answer, or another process has locked the file.
        UserError: The file cannot be written or is not a database, the server refuses access, the driver of the
            database is missing, or ``uri`` is no address.
    """
    # Before it raises an error of the database, MLflow logs it with its traceback.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = _sqlite_file(uri)
    if path is not None:
        _check_file(uri, path)
        _check_answer(uri)
    elif is_server(uri):
        _check_answer(uri)
    else:
        try:
            create_engine(uri)
        except (ArgumentError, ModuleNotFoundError, ValueError) as error:  # ValueError: the port is not a number
            problem = "expected the address of a server, http://HOST:PORT, or of a database whose driver is installed"
            raise _unusable(uri, f"{problem} ({error})") from error
    if path is not None and artifacts is not None:
        with exclusive(uri):
            _follow_artifacts(path, Path(artifacts))
    mlflow.set_tracking_uri(uri)
    if without_password(uri) != uri:
        # MLflow prints the address of a run's page when the run ends, including the password.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def _sqlite_file(uri: str) -> Path | None:
    parts = urlparse(uri)
    return Path(parts.path[1:]) if parts.scheme == "sqlite" else None


def _unusable(uri: str, problem: str, advice: str = _ADVICE, *, error: type[UserError] = UserError) -> UserError:
    return error(
        f"Cannot use MLflow at {without_password(uri)} (tracking_uri in conf/base/globals.yml, or the environment "
        f"variable MLFLOW_TRACKING_URI): {problem}. {advice}."
    )


def _check_file(uri: str, path: Path) -> None:
    """Check that a SQLite file can be written, and wait as long as MLflow if another process has locked it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        if path.exists():
            with path.open("r+b"), closing(sqlite3.connect(path, timeout=_LOCKED_SECONDS)) as database:
                database.execute("PRAGMA schema_version")
    except OSError as error:
        raise _unusable(uri, f"the file cannot be written ({error.strerror})") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
            raise _unusable(uri, f"the file is not a usable SQLite database ({error})") from error
        problem = f"another process has kept the file locked for {_LOCKED_SECONDS} seconds"
        advice = "Run the same command again when that process has ended"
        raise _unusable(uri, problem, advice, error=Unavailable) from error


def _create_database(path: Path) -> None:
    """Create the SQLite file with the tables of MLflow.

    MLflow creates the tables one by one: a file of which it was killed in between could never be opened again.
    """
    for leftover in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        leftover.unlink()
    with written_atomically(path) as temporary:
        mlflow.MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)


def _follow_artifacts(database: Path, artifacts: Path) -> None:
    """Change the recorded folder of artifacts to ``artifacts``, if they are there or the recorded place is gone.

    MLflow records absolute paths. Otherwise the models of a project that was moved or copied would not be found, and
    new ones would be written to the folder of the original.
    """
    with closing(sqlite3.connect(database, timeout=_LOCKED_SECONDS)) as connection, connection:
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE 'cxr-%'")
        for old in {path for (location,) in rows if (path := _local_path(location)) is not None} - {artifacts}:
            below = list(_below(connection, old))
            has_moved = any((artifacts / rest).exists() for table, *_, rest in below if table != "experiments")
            if old.parent.exists() and not has_moved:
                continue
            for table, row, location, rest in below:
                new = artifacts / rest
                # A run that another project wrote since to a shared database stays where it is.
                if table != "experiments" and (old / rest).exists() and not new.exists():
                    continue
                value = new.as_uri() if "://" in location else str(new)
                connection.execute(f"UPDATE {table} SET {_LOCATIONS[table]} = ? WHERE rowid = ?", (value, row))  # noqa: S608
            _log.warning("The MLflow artifacts of this project were in %s and are now used from %s.", old, artifacts)


def _below(connection: sqlite3.Connection, folder: Path) -> Iterator[tuple[str, int, str, Path]]:
    """Yield table, row, location and the path below a folder of what is recorded in the folder."""
    for table, column in _LOCATIONS.items():
        for row, location in connection.execute(f"SELECT rowid, {column} FROM {table}"):  # noqa: S608
            path = _local_path(location)
            if path is not None and path.is_relative_to(folder):
                yield table, row, location, path.relative_to(folder)


def _local_path(location: str | None) -> Path | None:
    address = urlparse(location or "")
    return Path(unquote(address.path)) if location and address.scheme in ("", "file") else None


def _check_answer(uri: str) -> None:
    path = _sqlite_file(uri)
    try:
        # Two processes must not create a file at once.
        with exclusive(uri), impatient():
            if path is not None and not path.exists():
                _create_database(path)
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        status = error.get_http_status_code()
        if is_server(uri) and status in (401, 403):
            advice = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            raise _unusable(uri, f"the server refuses access (status {status})", advice) from error
        if is_server(uri):
            raise _unusable(uri, f"no MLflow server answers there ({reason(error)})", error=Unavailable) from error
        raise _unusable(uri, reason(error), error=Unavailable if is_unavailable(error) else UserError) from error


@contextmanager
def exclusive(uri: str) -> Iterator[None]:
    """Keep other runs on this machine from changing the SQLite file at ``uri`` in this block. A server has no lock."""
    path = _sqlite_file(uri)
    with FileLock(f"{path}.lock") if path is not None else nullcontext():
        yield


@contextmanager
def impatient() -> Iterator[None]:
    """Disable retries in this block, and wait at most 10 seconds for each request."""
    before = {name: os.environ[name] for name in (_RETRIES, _TIMEOUT)}
    os.environ.update({_RETRIES: "0", _TIMEOUT: str(min(10, int(before[_TIMEOUT])))})
    try:
        yield
    finally:
        os.environ.update(before)


def is_unavailable(error: BaseException) -> bool:
    """Return whether an error means that a server is unavailable, not that a request is invalid."""
    if isinstance(error, HTTPError) and error.response is not None:
        status = error.response.status_code
    elif isinstance(error, RestException) or (isinstance(error, MlflowException) and "API request to " in str(error)):
        # Other MLflow errors also have the status 500, even those raised without a request to a server.
        status = int(error.get_http_status_code())
    else:
        return isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE"
    return status >= 500 or status in _RETRY_LATER


def unavailable_message(error: BaseException) -> str | None:
    """Return the message for the user if ``error`` means that MLflow is unavailable, otherwise None."""
    if not is_unavailable(error):
        return None
    return (
        f"MLflow at {without_password(mlflow.get_tracking_uri())} does not answer ({reason(error)}). Everything "
        "computed so far is on disk. Run the same command again when MLflow answers; it resumes from there."
    )


def reason(error: BaseException) -> str:
    """Return the root cause of an MLflow or network error, in one line and without passwords."""
    root, cause = error, error
    while (following := cause.__cause__ or cause.__context__) is not None:
        cause = following
        if isinstance(cause, OSError | MlflowException):
            root = cause
    message: str = hide_passwords(str(root) or type(root).__name__)
    return message.splitlines()[0][:200]


def without_password(uri: str) -> str:
    """Remove user, password and query from an address.

    Example:
        >>> without_password("https://user:secret@mlflow.example.org/mlflow?token=secret")
        'https://mlflow.example.org/mlflow'
    """
    parts = urlparse(uri)
    if not parts.netloc:
        return uri if "://" in uri else uri.rpartition("@")[2]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], params="", query="", fragment="").geturl()


def run_url(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the address of a run's page; None if ``uri`` is not a server."""
    return _page_url(uri, "experiments", experiment_id, "runs", run_id)


def version_url(uri: str, name: str, version: int) -> str | None:
    """Return the address of a model version's page; None if ``uri`` is not a server."""
    return _page_url(uri, "models", name, "versions", str(version))


def _page_url(uri: str, *parts: str) -> str | None:
    if not is_server(uri):
        return None
    return f"{without_password(uri).rstrip('/')}/#/" + "/".join(quote(part, safe="") for part in parts)
