"""Layout ``dicom_folder``: DICOM images below a folder, and a CSV or Parquet table with their labels."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom import BODY_PARTS, KIND_TAGS, MODALITIES, check_chest, check_header, is_dicom
from cxr_pipeline.data.images.dicom_headers import read_header, text
from cxr_pipeline.data.images.headers import without_warnings
from cxr_pipeline.data.sources.label_table import files_below, normal, place
from cxr_pipeline.data.sources.label_tables import Columns, list_rows, read_label_table, years
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.pseudonyms import KEY_FILE, key_fingerprint, pseudonyms
from cxr_pipeline.data.sources.readers import file_length, read_file

EXPECTED = "DICOM images (.dcm, .dicom or no suffix) in it or below it, and a label table (CSV, CSV.gz or Parquet)"
SUFFIXES = (".dcm", ".dicom")

_SAID = ("SOPInstanceUID", "PatientID", "PatientAge", "PatientSex", "ViewPosition")
_WORD_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")
_MARK_ENDS = 132
_WORTH_A_PROGRESS_BAR = 1000


def read(
    folder: Path,
    *,
    table: str,
    columns: Mapping[str, Any],
    modalities: Sequence[str] = MODALITIES,
    body_parts: Sequence[str] = BODY_PARTS,
) -> Listing:
    """List the images that a label table names and that are on disk; of each, its header is read.

    An image is named by its path below ``folder``, by its file name, by its SOP instance UID, or by path or file name
    without suffix: the first of these that fits. An image is a file that ends in ``.dcm`` or ``.dicom``, or one with no
    suffix (or a numeric one, as in a UID) and the mark of DICOM in it.

    What leaves a header is: age, sex and view position where the table does not say, and the patient id where it does
    not say, which becomes a pseudonym, as do the ids of the table. The image itself is named by its path, so that what
    folders and files are called is up to their owner.

    Args:
        folder: the source's folder.
        table: the table's file, relative to ``folder``.
        columns: the fields of ``label_tables.Columns``.
        modalities: values of Modality that are taken.
        body_parts: values of Body Part Examined that are taken; an image that names none is taken too.

    Raises:
        UserError: the table cannot be read or lacks a column, the folder cannot be listed, or there is no key for
            pseudonyms (``sources.pseudonyms``).
    """
    rows, vocabulary = read_label_table(folder / table, Columns(**columns))
    images = _read_headers(folder, modalities, body_parts)
    rows = place(rows.assign(image=normal(rows["image"])), _places(images))
    n_unnamed = len(images) - rows["path"].nunique()
    notes = [f"Labels are from {printable(Path(table).name)}."]
    if n_unnamed:
        notes.append(f"DICOM files below the folder that the table does not name: {n_unnamed}.")
    return list_rows(_complete(rows, images, folder), vocabulary=vocabulary, notes=tuple(notes))


@dataclass(frozen=True)
class DicomReader:
    """DICOM images that are files below a folder.

    Args:
        folder: the source's folder.
        modalities: values of Modality that are taken.
        body_parts: values of Body Part Examined that are taken.
    """

    folder: Path
    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS

    def read(self, path: str) -> bytes:
        """Read one image.

        Args:
            path: POSIX path of the image, relative to ``folder``.

        Raises:
            ImageRefused: as ``readers.read_file``, and ``not_chest``.
        """
        content = read_file(self.folder, path)
        if not is_dicom(content):
            raise ImageRefused("unreadable", "no DICOM file")
        check_chest(content, modalities=self.modalities, body_parts=self.body_parts)
        return content

    def n_bytes(self, path: str) -> int:
        """Tell the length of an image's file."""
        return file_length(self.folder, path)


def reader(
    folder: Path,
    *,
    unpacked: Path,
    modalities: Sequence[str] = MODALITIES,
    body_parts: Sequence[str] = BODY_PARTS,
    **options: object,
) -> DicomReader:
    """Read images from their files."""
    return DicomReader(folder, tuple(modalities), tuple(body_parts))


def holds_images(folder: Path) -> bool:
    """Tell whether any DICOM file lies below the folder; stops at the first."""
    return folder.is_dir() and any(_has_mark(folder / path) for path in _candidates(folder))


@dataclass(frozen=True)
class _Image:
    """One DICOM file below the folder, and what its header says; the reason and detail why it cannot be used."""

    path: str
    uid: str | None = None
    patient_id: str | None = None
    age: str | None = None
    sex: str | None = None
    view: str | None = None
    reason: str | None = None
    detail: str | None = None


def _candidates(folder: Path) -> Iterator[str]:
    for path in files_below(folder):
        if path.lower().endswith(SUFFIXES) or not _WORD_SUFFIX.search(path):
            yield path


def _has_mark(file: Path) -> bool:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as opened:
            return is_dicom(opened.read(_MARK_ENDS))
    except OSError:
        return False


def _read_headers(folder: Path, modalities: Sequence[str], body_parts: Sequence[str]) -> pd.DataFrame:
    """Read the headers of all DICOM images below a folder: a row for each, with the fields of ``_Image``."""
    paths = list(_candidates(folder))
    look = partial(_look_at, Path(os.path.realpath(folder)), modalities=modalities, body_parts=body_parts)
    with without_warnings(), ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        images = track(
            threads.map(look, paths),
            description="Reading DICOM headers",
            total=len(paths),
            console=Console(stderr=True),
            disable=len(paths) < _WORTH_A_PROGRESS_BAR,
        )
        rows = [astuple(image) for image in images if image is not None]
    return pd.DataFrame(rows, columns=[field.name for field in fields(_Image)], dtype="str")


def _look_at(root: Path, path: str, *, modalities: Sequence[str], body_parts: Sequence[str]) -> _Image | None:
    try:
        file = Path(os.path.realpath(root / path, strict=True))
        if not file.is_relative_to(root):
            raise ImageRefused("outside_source", "a link in its path leads out of the source's folder")
        if not _has_mark(file):
            if not path.lower().endswith(SUFFIXES):
                return None
            raise ImageRefused("unreadable", "no DICOM file")
        with file.open("rb") as opened:
            header = read_header(opened, (*KIND_TAGS, *_SAID))
    except ImageRefused as refusal:
        return _Image(path, reason=refusal.reason, detail=refusal.detail)
    except OSError as error:
        return _Image(path, reason="unreadable", detail=error.strerror or type(error).__name__)
    said = _Image(path, *(text(header, tag) or None for tag in _SAID))
    try:
        check_header(header, modalities=modalities, body_parts=body_parts)
    except ImageRefused as refusal:
        return replace(said, reason=refusal.reason, detail=refusal.detail)
    return said


def _places(images: pd.DataFrame) -> dict[str, str | None]:
    """Map what a table may call an image to its path, None where several images are called so."""
    paths = images["path"]
    bare = paths.str.replace(r"\.(dcm|dicom)$", "", case=False, regex=True)
    places: dict[str, str | None] = {}
    for names in (paths, paths.map(posixpath.basename), images["uid"], bare, bare.map(posixpath.basename)):
        found: dict[str, str | None] = {}
        for name, path in zip(names[names.notna()], paths[names.notna()], strict=True):
            found[name] = None if name in found else path
        places = found | places
    return places


def _complete(rows: pd.DataFrame, images: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add to rows of the table what headers say, and replace the ids of patients."""
    said = images.set_index("path").reindex(rows["path"]).set_index(rows.index)
    reason = rows["reason"].fillna(said["reason"])
    patients = rows["patient_id"].fillna(said["patient_id"]).where(rows["path"].notna() & reason.isna())
    return rows.assign(
        image=rows["path"].fillna(rows["image"]),
        patient_id=pseudonyms(patients, folder / KEY_FILE),
        age=rows["age"].fillna(years(said["age"])),
        sex=rows["sex"].fillna(said["sex"].str.upper().where(lambda sex: sex.isin(["F", "M"]))),
        view=rows["view"].fillna(said["view"].str.upper()),
        reason=reason,
        detail=rows["detail"].fillna(said["detail"]),
    )


def patient_pseudonym(folder: Path, patient: str) -> str | None:
    """Tell what ``read`` calls a patient.

    Args:
        folder: the source's folder.
        patient: the id in headers or in the table.

    Returns:
        None where the source has no key, and hence no patients yet.

    Raises:
        UserError: the key cannot be read.
    """
    key_file = folder / KEY_FILE
    if key_fingerprint(key_file, make=False) is None:
        return None
    return str(pseudonyms(pd.Series([patient], dtype="str"), key_file)[0])
