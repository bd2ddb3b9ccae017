"""Images and patients of a model version: images by their content, patients by keyed hashes."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import printable
from cxr_pipeline.data.sources.pseudonyms import pseudonyms

PATIENT = "patient"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_NUMBER = 12


def hash_patients(manifest: pd.DataFrame, key_file: Path) -> "pd.Series[str]":
    """Hash the patient of each image, together with its source, by a secret key (see ``sources.pseudonyms``).

    The 16 hexadecimal digits are equal for images of the same patient of a source, and null if it is unknown.
    """
    patients = manifest["source"].astype("str") + "\x1f" + manifest["patient_id"].astype("str")
    return pseudonyms(patients.where(manifest["patient_id"].notna()), key_file)


def with_patients(images: pd.DataFrame, manifest: pd.DataFrame, key_file: Path) -> pd.DataFrame:
    """Add ``source`` and the hashed ``patient`` to ``data_changes.images_used``; null where an image was refused."""
    patients = manifest[["sha256", "source"]].assign(**{PATIENT: hash_patients(manifest, key_file)})
    return images.merge(patients, on="sha256", how="left", validate="many_to_one")


def images_of_patient(images: pd.DataFrame, ids: Sequence[str], key_file: Path) -> pd.DataFrame:
    """Select the images of a patient, to which sources may give any of the ``ids``, from `with_patients`.

    A number that is not found is also looked up with other leading zeros, in which the label table and the file names
    of a release may differ, as in NIH ChestX-ray14.
    """
    sources = images["source"].dropna().unique()
    for spellings in (list(ids), [other for name in ids for other in _other_zeros(name)]):
        names = pd.Series([f"{source}\x1f{name}" for source in sources for name in spellings], dtype="str")
        matches = images[images[PATIENT].isin(pseudonyms(names, key_file)) & images[PATIENT].notna()]
        if len(matches):
            return matches
    return images.iloc[:0]


def _other_zeros(name: str) -> list[str]:
    number = name.lstrip("0") or "0"
    return [number.zfill(width) for width in range(len(number), _LONGEST_NUMBER + 1)] if name.isdecimal() else []


def content_of(image: str) -> str:
    """Return the SHA-256 of an image, given as 64 hexadecimal digits or as the path of its file."""
    if _SHA256.fullmatch(image):
        return image.lower()
    try:
        return hashlib.sha256(Path(image).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"Cannot read an image at {printable(image)} ({error.strerror or error}). Expected the path of an image, "
            "or its SHA-256 (64 hexadecimal digits, as sha256sum prints them)."
        ) from error
