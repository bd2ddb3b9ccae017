"""Pseudonyms of patients: the same for the same patient, and of no use to who lacks the key."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

import pandas as pd

from cxr_pipeline.errors import UserError
from cxr_pipeline.sources.listing import printable

VARIABLE = "CXR_PSEUDONYM_KEY"
KEY_FILE = ".pseudonym_key"

_SHORTEST_KEY = 16
_DIGITS = 16


def pseudonyms(patients: "pd.Series[str]", folder: Path) -> "pd.Series[str]":
    """Replace patient ids by the first 16 hexadecimal digits of their HMAC-SHA256 (RFC 2104).

    A hash without key would hide nothing: there are few enough patient numbers to try them all. The key is the
    environment variable ``CXR_PSEUDONYM_KEY`` or else the file ``.pseudonym_key`` in ``folder``, made at the first
    need. There it is seen by nobody who could not read the patients' names in the films beside it, and stays with
    the films, so that a patient keeps the pseudonym, and with it the split. Two sources give a patient the same
    pseudonym if they have the same key.

    Args:
        patients: ids, null where unknown.
        folder: the source's folder.

    Raises:
        UserError: the key is too short, or there is none and none can be kept in ``folder``.
    """
    known = patients.dropna().unique()
    if not len(known):
        return patients
    key = _key(folder)
    named = {patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:_DIGITS] for patient in known}
    return patients.map(named).astype("str")


def _key(folder: Path) -> bytes:
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _long_enough(given, f"the environment variable {VARIABLE}")
    file = folder / KEY_FILE
    try:
        with suppress(FileExistsError):
            _make_key(file)
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the key for the pseudonyms of patients cannot be kept in {printable(str(file))}: "
            f"{getattr(error, 'strerror', None) or 'not UTF-8'}. Expected a folder that this user may write; or a "
            f"secret in {VARIABLE}, the same in every run: export {VARIABLE}=$(openssl rand -hex 32)"
        ) from error
    return _long_enough(key, printable(str(file)))


def _make_key(file: Path) -> None:
    handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode())
    finally:
        os.close(handle)


def _long_enough(key: str, place: str) -> bytes:
    if len(key) < _SHORTEST_KEY:
        raise UserError(
            f"the key for the pseudonyms of patients in {place} has {len(key)} characters; expected "
            f"{_SHORTEST_KEY} or more that nobody can guess, such as those of: openssl rand -hex 32"
        )
    return key.encode()
