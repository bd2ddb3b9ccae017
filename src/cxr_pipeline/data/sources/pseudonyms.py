"""Pseudonyms of patients: the same for the same patient, and of no use to who lacks the key."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import printable

VARIABLE = "CXR_PSEUDONYM_KEY"
KEY_FILE = ".pseudonym_key"

_SHORTEST_KEY = 16
_DIGITS = 16
_DIGITS_OF_KEY = 12
_FINGERPRINTED = b"cxr_pipeline\x1fkey"


def pseudonyms(patients: "pd.Series[str]", key_file: Path) -> "pd.Series[str]":
    """Replace patient ids by the first 16 hexadecimal digits of their HMAC-SHA256 (RFC 2104).

    A hash without key would hide nothing: there are few enough patient numbers to try them all. The key is the
    environment variable ``CXR_PSEUDONYM_KEY`` or else ``key_file``, made at the first need. The same key gives a
    patient the same pseudonym.

    Args:
        patients: ids, null where unknown.
        key_file: where the key is kept: of a source's patients ``.pseudonym_key`` in the source's folder, seen there
            by nobody who could not read the patients' names in the images beside it, and staying with the images, so
            that a patient keeps the pseudonym, and with it the split.

    Raises:
        UserError: the key is too short, or there is none and none can be kept in ``key_file``.
    """
    known = patients.dropna().unique()
    if not len(known):
        return patients
    key = _key(key_file)
    named = {patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:_DIGITS] for patient in known}
    return patients.map(named).astype("str")


def key_fingerprint(key_file: Path, *, make: bool) -> str | None:
    """Tell one key from another without telling the key: 12 hexadecimal digits.

    Args:
        key_file: where the key is kept, as for ``pseudonyms``.
        make: make a key where there is none.

    Returns:
        None where there is none and none was to be made.

    Raises:
        UserError: the key is too short, cannot be read, or cannot be kept in ``key_file``.
    """
    if not make and VARIABLE not in os.environ and not key_file.exists():
        return None
    return hmac.new(_key(key_file), _FINGERPRINTED, hashlib.sha256).hexdigest()[:_DIGITS_OF_KEY]


def _key(file: Path) -> bytes:
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _long_enough(given, f"the environment variable {VARIABLE}")
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
