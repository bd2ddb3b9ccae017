"""Pseudonyms of patients: stable for each patient, and irreversible without the key."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import Listing, printable

VARIABLE = "CXR_PSEUDONYM_KEY"

_MIN_KEY_LENGTH = 16
_FINGERPRINT_MESSAGE = b"cxr_pipeline\x1fkey"


def pseudonyms(patients: "pd.Series[str]", key_file: Path) -> "pd.Series[str]":
    """Replace patient ids by the first 16 hexadecimal digits of their HMAC-SHA256 (RFC 2104).

    A hash without a key would hide nothing: there are few enough patient numbers to try them all. The key is the
    environment variable ``CXR_PSEUDONYM_KEY`` or else ``key_file``, which is created when first needed. With another
    key, a patient has another pseudonym and split. `UserError` is raised if the key is too short or cannot be stored.
    """
    known = patients.dropna().unique()
    if not len(known):
        return patients
    key = _key(key_file)
    names = {patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:16] for patient in known}
    return patients.map(names).astype("str")


def hide_patients(listing: Listing, key_file: Path) -> Listing:
    """Replace the patient ids of a listing by ``pseudonyms``."""
    return replace(listing, images=listing.images.assign(patient_id=pseudonyms(listing.images["patient_id"], key_file)))


def key_fingerprint(key_file: Path, *, make: bool) -> str | None:
    """Return 12 hexadecimal digits that identify the key; None if there is none and not ``make``."""
    if not make and VARIABLE not in os.environ and not key_file.exists():
        return None
    return hmac.new(_key(key_file), _FINGERPRINT_MESSAGE, hashlib.sha256).hexdigest()[:12]


def _key(file: Path) -> bytes:
    key, place = os.environ.get(VARIABLE), f"the environment variable {VARIABLE}"
    if key is None:
        place = printable(str(file))
        try:
            if not file.exists():
                _make_key(file)
            key = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"the key for the pseudonyms of patients cannot be stored in {place}: "
                f"{getattr(error, 'strerror', None) or 'not UTF-8'}. Expected a folder that this user may write, or a "
                f"secret in {VARIABLE}, the same in every run: export {VARIABLE}=$(openssl rand -hex 32)"
            ) from error
    if len(key) < _MIN_KEY_LENGTH:
        raise UserError(
            f"the key for the pseudonyms of patients in {place} has {len(key)} characters; expected "
            f"{_MIN_KEY_LENGTH} or more random ones. Restore the key of earlier runs: with another one, patients get "
            "other pseudonyms and splits. If there were none, set it to the output of: openssl rand -hex 32"
        )
    return key.encode()


def _make_key(file: Path) -> None:
    """Write a new key to a file that only its owner can read, unless another run has written one meanwhile."""
    beside = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    _write_key(beside)
    try:
        # Unlike a rename, a link does not replace the key of another run. It is complete even if the disk is full.
        file.hardlink_to(beside)
    except FileExistsError:
        pass
    except OSError:
        # exFAT and some network shares have no hard links.
        with suppress(FileExistsError):
            _write_key(file)
    finally:
        beside.unlink(missing_ok=True)


def _write_key(file: Path) -> None:
    with open(file, "x", opener=partial(os.open, mode=0o600)) as new:
        try:
            new.write(secrets.token_hex(32))
            new.flush()
            os.fsync(new.fileno())
        except OSError:
            file.unlink()
            raise
