"""Which images and patients a model version has seen; images go by their content, patients by keyed hashes."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import printable
from cxr_pipeline.data.sources.pseudonyms import pseudonyms
from cxr_pipeline.data.splits import SPLITS

PATIENT = "patient"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_NUMBER = 12


def with_patients(images: pd.DataFrame, manifest: pd.DataFrame, key_file: Path) -> pd.DataFrame:
    """Say of each image of a version which source it is from, and of which patient, without naming anybody.

    Args:
        images: from ``retraining.images_used``.
        manifest: the usable images.
        key_file: where the key is kept, see ``sources.pseudonyms``.

    Returns:
        ``images`` with ``source`` and ``patient``: 16 hexadecimal digits, the same for the images of a patient of a
        source; null where the patient is not known, both null where the image could not be decoded.

    Raises:
        UserError: there is no key and none can be kept.
    """
    named = manifest["source"].astype("str") + "\x1f" + manifest["patient_id"].astype("str")
    named = named.where(manifest["patient_id"].notna())
    said = manifest[["sha256", "source"]].assign(**{PATIENT: pseudonyms(named, key_file)})
    return images.merge(said, on="sha256", how="left", validate="many_to_one")


def images_of_patient(images: pd.DataFrame, ids: Sequence[str], key_file: Path) -> pd.DataFrame:
    """Find the images of a patient, whichever source they are from.

    A number that is not found is looked for with other leading zeros too: tables and file names of one release may
    differ in them.

    Args:
        images: of a version, from ``with_patients``.
        ids: what sources may call the patient.
        key_file: where the key is kept by which the images were hashed.

    Returns:
        rows of ``images``.
    """
    sources = images["source"].dropna().unique()
    for spelled in (list(ids), [other for name in ids for other in _other_zeros(name)]):
        names = pd.Series([f"{source}\x1f{name}" for source in sources for name in spelled], dtype="str")
        found = images[
            images[PATIENT].isin(pseudonyms(names, key_file)).to_numpy() & images[PATIENT].notna().to_numpy()
        ]
        if len(found):
            return found
    return images.iloc[:0]


def _other_zeros(name: str) -> list[str]:
    number = name.lstrip("0") or "0"
    return [number.zfill(width) for width in range(len(number), _LONGEST_NUMBER + 1)] if name.isdecimal() else []


def content_of(image: str) -> str:
    """Give the sha256 of an image.

    Args:
        image: the sha256 itself, or the image's file.

    Raises:
        UserError: it is neither.
    """
    if _SHA256.fullmatch(image):
        return image.lower()
    try:
        return hashlib.sha256(Path(image).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"no image can be read at {printable(image)} ({error.strerror or error}); expected the file of an image, or "
            "its sha256, 64 hexadecimal digits, as sha256sum prints it."
        ) from error


def count_by_split(images: pd.DataFrame) -> dict[str, int]:
    """Count images by split: ``train``, ``validation``, ``test`` and whatever else there is, such as ``refused``."""
    found = images["split"].value_counts()
    order = [*SPLITS, *sorted(set(found.index) - set(SPLITS))]
    return {split: int(found[split]) for split in order if split in found.index}


def count_patients(images: pd.DataFrame) -> int | None:
    """Count the patients among images of a version; None where it is not on record whose they are."""
    return int(images[PATIENT].nunique()) if PATIENT in images else None
