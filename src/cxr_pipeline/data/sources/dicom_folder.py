"""Layout ``dicom_folder``: DICOM images below a folder, and a CSV or Parquet table with their labels."""

import posixpath
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom import BODY_PARTS, KIND_TAGS, MODALITIES, check_header, is_dicom
from cxr_pipeline.data.images.dicom_headers import read_header, text
from cxr_pipeline.data.images.headers import without_warnings
from cxr_pipeline.data.sources.folders import files_below, has_suffix, map_in_threads
from cxr_pipeline.data.sources.label_tables import Columns, locate, read_label_table, years
from cxr_pipeline.data.sources.listing import Listing, list_rows, printable
from cxr_pipeline.data.sources.readers import FileReader

EXPECTED = "DICOM images (.dcm, .dicom or no suffix) in it or below it, and a label table (CSV, CSV.gz or Parquet)"
SUFFIXES = (".dcm", ".dicom")
HAS_PATIENT_RECORDS = True

_TAGS = {
    "uid": "SOPInstanceUID",
    "patient_id": "PatientID",
    "age": "PatientAge",
    "sex": "PatientSex",
    "view": "ViewPosition",
}
_COLUMNS = ("path", *_TAGS, "reason", "detail")


def read(
    folder: Path,
    *,
    table: str,
    columns: Columns,
    modalities: tuple[str, ...] = MODALITIES,
    body_parts: tuple[str, ...] = BODY_PARTS,
) -> Listing:
    """List the images that the file ``table`` in ``folder`` names and that are on disk, and read their headers.

    The table identifies an image by the first of these that matches: its path below ``folder``, its file name, its SOP
    instance UID, its path or its file name without suffix. Images are files that end in ``.dcm`` or ``.dicom``, and
    files without suffix (or with a numeric one, as in a UID) that start like a DICOM file. Values that are not in the
    table are read from the header. Names of folders and files are not replaced by pseudonyms.

    Args:
        folder: folder of the source.
        table: label table, relative to the folder.
        columns: names of its columns.
        modalities: accepted modalities.
        body_parts: accepted body parts; an image without one is accepted too, and any with an empty list.
    """
    rows, vocabulary = read_label_table(folder, table, columns)
    headers = _read_headers(reader(folder, modalities=modalities, body_parts=body_parts))
    paths = headers["path"]
    bare = paths.str.replace(r"\.(dcm|dicom)$", "", case=False, regex=True)
    rows = locate(rows, paths, paths.map(posixpath.basename), headers["uid"], bare, bare.map(posixpath.basename))
    unnamed = {"DICOM files below the folder that the table does not name": int((~paths.isin(rows["path"])).sum())}
    notes = [f"Labels are from {printable(Path(table).name)}."]
    return list_rows(_complete(rows, headers), vocabulary=vocabulary, notes=notes, counts=unnamed)


def reader(
    folder: Path, *, modalities: tuple[str, ...] = MODALITIES, body_parts: tuple[str, ...] = BODY_PARTS, **_: object
) -> FileReader:
    """Return a reader of these modalities and body parts."""
    return FileReader(folder, modalities, body_parts)


def _starts_like_dicom(file: Path) -> bool:
    with suppress(OSError):
        # Opening a pipe would wait for a writer.
        if file.is_file():
            with file.open("rb") as opened:
                return is_dicom(opened.read(132))
    return False


def _read_headers(images: FileReader) -> pd.DataFrame:
    with without_warnings():
        paths = [path for path in files_below(images.folder) if path.lower().endswith(SUFFIXES) or not has_suffix(path)]
        rows = map_in_threads(partial(_read_header, images), paths, description="Reading DICOM headers")
    return pd.DataFrame([row for row in rows if row is not None], columns=list(_COLUMNS), dtype="str")


def _read_header(images: FileReader, path: str) -> dict[str, str | None] | None:
    """Return the content of a file's header and the reason for refusing it; None if it is not a DICOM file."""
    row: dict[str, str | None] = {"path": path}
    try:
        file = images.resolve(path)
        if not _starts_like_dicom(file):
            if not path.lower().endswith(SUFFIXES):
                return None
            raise ImageRefused("unreadable", "not a DICOM file")
        with file.open("rb") as opened:
            header = read_header(opened, (*KIND_TAGS, *_TAGS.values()))
        row |= {column: text(header, tag) or None for column, tag in _TAGS.items()}
        check_header(header, modalities=images.modalities, body_parts=images.body_parts)
    except ImageRefused as refusal:
        row |= {"reason": refusal.reason, "detail": refusal.detail}
    except OSError as error:
        row |= {"reason": "unreadable", "detail": error.strerror or type(error).__name__}
    return row


def _complete(rows: pd.DataFrame, headers: pd.DataFrame) -> pd.DataFrame:
    """Fill missing values of the table from the headers."""
    header = headers.set_index("path").reindex(rows["path"]).set_index(rows.index)
    return rows.assign(
        patient_id=rows["patient_id"].fillna(header["patient_id"]),
        age=rows["age"].fillna(years(header["age"])),
        sex=rows["sex"].fillna(header["sex"].str.upper().where(lambda sex: sex.isin(["F", "M"]))),
        view=rows["view"].fillna(header["view"].str.upper()),
        reason=rows["reason"].fillna(header["reason"]),
        detail=rows["detail"].fillna(header["detail"]),
    )
