"""Read DICOM headers, in which any element may be missing or damaged, or contain the name of the patient."""

import logging
import math
import re
import struct
from collections.abc import MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.headers import LimitedFile, refusing

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
# The preamble and "DICM" come before the file meta information (PS3.10, 7.1).
_START_OF_META = 132
_MAX_HEADER_BYTES = 2**23
_MAX_MARKERS = 100_000
_JPEG_2000 = b"\xff\x4f\xff\x51"
# Start of frame: all processes of JPEG (ITU-T T.81, table B.1) and JPEG-LS (ITU-T T.87, annex C).
_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})

# pydicom's log messages quote values of the header.
logging.getLogger("pydicom").propagate = False


def read_header(file: BinaryIO, tags: Sequence[str]) -> "Dataset":
    """Read the elements with these keywords, up to the pixel data; refuse a damaged header as ``unreadable``.

    Call this inside `without_warnings`.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    too_long = ImageRefused("unreadable", f"a DICOM header of more than {_MAX_HEADER_BYTES >> 20} MiB")
    limited: Any = LimitedFile(file, too_long, n_bytes=_MAX_HEADER_BYTES)
    with refusing("unreadable", "a damaged DICOM header"):
        file.seek(_START_OF_META)
        meta = read_dataset(limited, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        # pydicom would inflate the whole file, which may be a thousand times as large.
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            raise unsupported_syntax(_DEFLATED)
        file.seek(0)
        return dcmread(limited, stop_before_pixels=True, specific_tags=list(tags))


def text(header: "Dataset", keyword: str) -> str:
    """Return an element as text without surrounding spaces; empty if it is missing or damaged."""
    element = value(header, keyword)
    return "" if element is None else str(element).strip(" \0")


def number(header: "Dataset", keyword: str, *, default: int | None = None) -> int:
    """Return an element as an integer; refuse an image for which it is none, or is missing and has no default."""
    element = value(header, keyword)
    if element is None or element == "":
        element = default
    if not isinstance(element, int):
        raise ImageRefused("unreadable", f"DICOM header: {keyword} is missing or not one integer")
    return int(element)


def numbers(header: "Dataset", keyword: str) -> list[float]:
    """Return the values of an element as numbers, nan for each that is none; empty if the element is missing."""
    element = value(header, keyword)
    if element is None or element == "":
        return []
    found = []
    for one in element if isinstance(element, MutableSequence) else [element]:
        try:
            found.append(float(one))
        except (TypeError, ValueError):
            found.append(math.nan)
    return found


def value(header: "Dataset", keyword: str) -> Any:
    """Return the value of an element; None if it is missing or damaged."""
    try:
        return header.get(keyword)
    except Exception:  # pydicom parses an element on first use, and passes on any exception of the parser
        return None


def coded_shape(stream: bytes) -> tuple[int, int, int]:
    """Read width, height and samples per pixel from a JPEG, JPEG-LS or JPEG 2000 stream without decoding it.

    See ITU-T T.81, B.2.2, and ITU-T T.800, A.5.1. Streams without a size raise errors of several types.
    """
    start = stream.find(_JPEG_2000, 0, 1024)
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        return right - left, bottom - top, *struct.unpack_from(">H", stream, start + 40)
    position = 2
    for _ in range(_MAX_MARKERS):
        if stream[position] != 0xFF:
            break
        if stream[position + 1] in _STARTS_OF_FRAME:
            height, width, samples = struct.unpack_from(">2HB", stream, position + 5)
            return width, height, samples
        fill_byte = stream[position + 1] == 0xFF
        position += 1 if fill_byte else 2 + int.from_bytes(stream[position + 2 : position + 4])
    raise ValueError("stream without an image size")


def unsupported_syntax(syntax: str) -> ImageRefused:
    """Return the refusal of an image in an unsupported transfer syntax (PS3.5, section 10)."""
    from pydicom.uid import UID

    name = UID(syntax).name if re.fullmatch(r"[0-9.]{1,64}", syntax) else "another" if syntax else "none"
    expected = "uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE"
    return ImageRefused("unreadable", f"DICOM transfer syntax {name}, expected {expected}")
