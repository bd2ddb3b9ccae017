"""Artifacts that were moved or copied together with the project: MLflow records absolute paths in its SQLite file."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

_log = logging.getLogger(__name__)

# Seconds to wait for another process that writes to the database.
_TIMEOUT = 20
# Tables with the location of an experiment, and of its runs and models.
_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow_artifacts(database: Path, artifacts: Path) -> None:
    """Change the recorded folder of artifacts to ``artifacts``, if they are there or the recorded place is gone.

    Otherwise the models of a project that was moved or copied would not be found, and new ones would be written to the
    folder of the original.
    """
    with closing(sqlite3.connect(database, timeout=_TIMEOUT)) as connection, connection:
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
