"""Headers of DICOM files, read so that nothing in them can stop a run or name a patient."""

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from cxr_pipeline.common.errors import ImageRefused

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"

# Its messages quote values of the header, and those may name the patient.
logging.getLogger("pydicom").propagate = False


def read_header(file: BinaryIO, tags: Sequence[str]) -> "Dataset":
    """Read some elements of a header, and no pixel. Call it ``without_warnings``.

    Args:
        file: an open DICOM file, at its beginning. It is left at its pixel data.
        tags: keywords of the elements.

    Raises:
        ImageRefused: ``unreadable``.
    """
    from pydicom import dcmread

    if _DEFLATED in file.read(1024):
        raise strange_syntax(_DEFLATED.decode())
    file.seek(0)
    try:
        return dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    except MemoryError:
        raise
    except Exception:  # of many kinds, and their texts may quote the patient
        raise ImageRefused("unreadable", "a damaged DICOM header") from None


def text(header: "Dataset", keyword: str) -> str:
    """Give an element of a header as text without spaces around it; empty where it is not there or damaged."""
    found = value(header, keyword)
    return "" if found is None else str(found).strip(" \0")


def number(header: "Dataset", keyword: str, *, default: int | None = None) -> int:
    """Give an element of a header that is a whole number.

    Raises:
        ImageRefused: ``unreadable``: it is no number, or it is not there and has no default.
    """
    found = value(header, keyword)
    found = default if found is None or found == "" else found
    if not isinstance(found, int):
        raise ImageRefused("unreadable", f"DICOM header: {keyword} is not there or no number")
    return int(found)


def value(header: "Dataset", keyword: str) -> Any:
    """Give the value of an element of a header; None where it is not there or damaged."""
    try:
        return header.get(keyword)
    except Exception:  # the element may hold anything
        return None


def strange_syntax(syntax: str) -> ImageRefused:
    """Make the refusal of an image in a transfer syntax that is not taken (PS3.5, section 10)."""
    from pydicom.uid import UID

    known = re.fullmatch(r"[0-9.]{1,64}", syntax)
    name = UID(syntax).name if known else "another" if syntax else "none"
    expected = "uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE"
    return ImageRefused("unreadable", f"DICOM transfer syntax {name}, expected {expected}")
