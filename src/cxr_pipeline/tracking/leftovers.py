"""Sending later what runs could not, from the folders in which they kept it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from requests import HTTPError

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.tracking.operations import perform
from cxr_pipeline.tracking.server import reason, without_password
from cxr_pipeline.tracking.unsent import Operation, Unsent, in_words, left_in


@dataclass(frozen=True)
class Sending:
    """What became of the folder of one run.

    Args:
        name: of the run, for people.
        sent: in words; empty where nothing was.
        problem: why something still waits, else None.
    """

    name: str
    sent: str
    problem: str | None


def send_left(folder: Path, *, parent: str | None = None) -> list[Sending]:
    """Send what earlier runs could not, the one that began to wait first as the first.

    A folder that is damaged, or that this user may not use, is named and stays; the others are sent all the same.

    Args:
        folder: of all that is not sent.
        parent: id of a run; what its cells could not is sent, and nothing else. None for all.
    """
    return [_send(unsent) for unsent in left_in(folder) if parent is None or _parent_of(unsent) == parent]


def empty(unsent: Unsent) -> tuple[list[Operation], str | None]:
    """Send what waits, in order, up to the first that is not taken.

    Args:
        unsent: the folder, locked.

    Returns:
        what was sent, and why not all was.
    """
    sent: list[Operation] = []
    waiting: list[Operation] = []
    try:
        waiting = unsent.waiting()
        for operation in waiting:
            file = unsent.folder / operation["file"] if "file" in operation else None
            version, place = perform(operation, file), unsent.about()["version_file"]
            if version is not None and place is not None:
                _write_version(Path(place), version)
            unsent.acknowledge()
            sent.append(operation)
        unsent.remove()
    except (MlflowException, HTTPError, UserError, OSError, ValueError) as error:
        left = in_words(waiting[len(sent) :]) or "what waits is"
        return sent, f"{reason(error)}; {left} kept in {unsent.folder}"
    return sent, None


def _write_version(place: Path, version: Mapping[str, Any]) -> None:
    """Write a version to the file of its run, unless the file is that of another run by now."""
    try:
        held = json.loads(place.read_text(encoding="utf-8"))["run_id"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if held == version["run_id"]:
        with written_atomically(place) as beside:
            beside.write_text(json.dumps(version, indent=2) + "\n", encoding="utf-8")


def _parent_of(unsent: Unsent) -> str | None:
    try:
        return unsent.about().get("parent")
    except (OSError, ValueError):
        return None


def _send(unsent: Unsent) -> Sending:
    name, server = f"run {unsent.folder.name}", without_password(mlflow.get_tracking_uri())
    try:
        about = unsent.about()
        name = f"{name} ({about['name']})"
        if about["server"] != server:
            return Sending(name, "", f"it belongs to MLflow at {about['server']}, and tracking_uri is {server} now")
        unsent.take()
    except TimeoutError:
        return Sending(name, "", "another process is at work on it")
    except (OSError, ValueError) as error:
        if not unsent.is_there():
            return Sending(name, "", None)
        return Sending(name, "", f"{unsent.folder} cannot be used ({reason(error)}); delete it to give it up")
    try:
        sent, problem = empty(unsent)
    finally:
        unsent.release()
    return Sending(name, in_words(sent), problem)
