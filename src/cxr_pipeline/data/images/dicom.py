"""DICOM images: check that they are chest radiographs, and decode their grey levels.

Parts and sections are those of the DICOM standard, https://www.dicomstandard.org/current.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import gdcm_process
from cxr_pipeline.data.images.dicom_headers import coded_shape, number, read_header, text, unsupported_syntax
from cxr_pipeline.data.images.grey_levels import WINDOWING_TAGS, to_grey_levels
from cxr_pipeline.data.images.headers import check_scans, check_size, refusing, without_warnings

if TYPE_CHECKING:
    from pydicom import Dataset

# PS3.3 C.7.3.1.1.1: computed, digital and radiographic imaging. DR is not in the standard, but devices write it.
MODALITIES = ("CR", "DX", "DR", "RG")
BODY_PARTS = ("CHEST", "THORAX", "LUNG")
KIND_TAGS = ("Modality", "BodyPartExamined", "PhotometricInterpretation")

_IMAGE_TAGS = (*WINDOWING_TAGS, "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "HighBit")
_PIXEL_DATA_TAG = 0x7FE00010
_PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_FRAGMENT = b"\xfe\xff\x00\xe0"  # the tag of an item, PS3.5, A.4
_MAX_FRAGMENTS = 100_000
# JPEG 2000, the slowest, takes a second for every 8 MiB; 60 megapixels of 12 bits compress to less.
_MAX_COMPRESSED_BYTES = 2**26

_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_RLE = "1.2.840.10008.1.2.5"
_EXTENDED, _LOSSLESS = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"
_JPEG = (
    *("1.2.840.10008.1.2.4.50", _EXTENDED, _LOSSLESS, "1.2.840.10008.1.2.4.70"),
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),  # JPEG-LS
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),  # JPEG 2000
)


def is_dicom(content: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of a DICOM file (PS3.10, 7.1)."""
    return content[128:132] == b"DICM"


def check_chest(
    content: bytes, *, modalities: Sequence[str] = MODALITIES, body_parts: Sequence[str] = BODY_PARTS
) -> None:
    """Refuse a DICOM file of another Modality or Body Part Examined as ``not_chest``; an empty list accepts any."""
    if is_dicom(content):
        with without_warnings():
            header = read_header(io.BytesIO(content), KIND_TAGS)
            check_header(header, modalities=modalities, body_parts=body_parts)


def check_header(header: "Dataset", *, modalities: Sequence[str], body_parts: Sequence[str]) -> None:
    """Check a header with at least ``KIND_TAGS`` as `check_chest` does; a header without a body part is accepted."""
    _check_accepted("modality", text(header, "Modality"), modalities)
    _check_grey(header)
    if body_part := text(header, "BodyPartExamined"):
        _check_accepted("body part", body_part, body_parts)


def decode_dicom(
    content: bytes, *, max_megapixels: float, note: Callable[[str], object] | None = None
) -> NDArray[np.uint8]:
    """Decode a DICOM image to grey levels as they are meant to be displayed, uint8 [height, width].

    The modality LUT or rescale is applied, then the first VOI LUT or else the first window (PS3.3 C.11.1, C.11.2)
    that can be applied and does not make all pixels equal; its range becomes 0 to 255. If there is none, values of up
    to 8 bits are kept, and values of more bits are scaled by `grey_levels.stretch`. MONOCHROME1 is inverted. Padding is
    ignored and becomes black. Images above ``max_megapixels`` are refused before their pixels are decoded. ``note``
    receives a text for a window that does not fit the pixels. Several frames, unsupported transfer syntaxes and files
    without pixels are refused as ``unreadable``, colour as ``not_chest``.
    """
    with without_warnings():
        stream = io.BytesIO(content)
        header = read_header(stream, _IMAGE_TAGS)
        _check_image(header, max_megapixels=max_megapixels)
        start = stream.tell()
        if stream.read(4) not in _PIXEL_DATA:
            raise ImageRefused("unreadable", "DICOM without pixels")
        with refusing("truncated", "truncated or damaged pixel data"):
            pixels = _read_pixels(content, header, start)
        # Elements may have the wrong type.
        with refusing("unreadable", "a damaged DICOM header: {kind} in the conversion to grey levels"):
            return to_grey_levels(pixels, header, note)


def _check_accepted(name: str, value: str, accepted: Sequence[str]) -> None:
    if accepted and value.casefold() not in [word.casefold() for word in accepted]:
        # Free text may contain the name of the patient.
        shown = value if re.fullmatch(r"[A-Z0-9_ ]{1,16}", value) else "another" if value else "none"
        raise ImageRefused("not_chest", f"{name} {shown}, expected {', '.join(accepted)}")


def _check_grey(header: "Dataset") -> None:
    photometric = text(header, "PhotometricInterpretation")
    if not photometric:
        raise ImageRefused("unreadable", "DICOM without an image, or with a truncated header")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageRefused("not_chest", "colour, expected MONOCHROME1 or MONOCHROME2")


def _check_image(header: "Dataset", *, max_megapixels: float) -> None:
    """Check that a header describes one grey image in a supported encoding."""
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    if syntax not in (*_UNCOMPRESSED, *_JPEG, _RLE):
        raise unsupported_syntax(syntax)
    _check_grey(header)
    if (n_frames := number(header, "NumberOfFrames", default=1)) != 1:
        raise ImageRefused("unreadable", f"a DICOM file with {n_frames} frames, expected one")
    if number(header, "SamplesPerPixel", default=1) != 1:
        raise ImageRefused("not_chest", "several samples per pixel, expected one")
    check_size((number(header, "Columns"), number(header, "Rows")), max_megapixels=max_megapixels)
    allocated, stored = number(header, "BitsAllocated"), number(header, "BitsStored")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise ImageRefused("unreadable", f"{stored} of {allocated} bits per pixel, expected up to 8 of 8 or 16 of 16")
    if number(header, "PixelRepresentation") not in (0, 1):
        raise ImageRefused("unreadable", "pixel values that are neither signed nor unsigned")
    if number(header, "HighBit", default=stored - 1) != stored - 1:
        raise ImageRefused("unreadable", "High Bit and Bits Stored contradict each other")


def _read_pixels(content: bytes, header: "Dataset", start: int) -> NDArray[Any]:
    """Decode the stored pixels: 8 or 16 bits, signed or unsigned, [height, width]. The header is changed."""
    from pydicom.filereader import read_dataset
    from pydicom.pixels.utils import as_pixel_options, pixel_array, pixel_dtype
    from pydicom.uid import UID

    stream = io.BytesIO(content)
    stream.seek(start)
    # Nothing after the pixel data is read, because millions of tiny elements there would take minutes.
    implicit, little = map(bool, header.original_encoding)
    header.update(read_dataset(stream, implicit, little, stop_when=lambda tag, *_: tag != _PIXEL_DATA_TAG))
    # pydicom requires both.
    header.SamplesPerPixel = header.NumberOfFrames = 1
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in _UNCOMPRESSED:
        _check_compressed(header)
    if syntax not in _JPEG:
        return pixel_array(header, decoding_plugin="pydicom" if syntax == _RLE else "")
    # pydicom does not pass 12-bit extended JPEG to GDCM, which decodes it, since the stream names its process.
    if syntax == _EXTENDED and number(header, "BitsStored") > 8:
        syntax = header.file_meta.TransferSyntaxUID = UID(_LOSSLESS)
    try:
        pixels = gdcm_process.decode(header.PixelData, syntax, as_pixel_options(header))
    except TimeoutError as error:
        raise ImageRefused("too_large", str(error)) from None
    return np.frombuffer(pixels, pixel_dtype(header)).reshape(header.Rows, header.Columns)


def _check_compressed(header: "Dataset") -> None:
    """Check the length of compressed pixel data, and a stream of the JPEG family against the header."""
    from pydicom.encaps import get_frame

    if len(header.PixelData) > _MAX_COMPRESSED_BYTES:
        raise ImageRefused("too_large", f"{len(header.PixelData) / 1e6:.0f} MB of compressed pixel data")
    if (n_fragments := header.PixelData.count(_FRAGMENT)) > _MAX_FRAGMENTS:
        raise ImageRefused("too_large", f"{n_fragments} fragments of pixel data")
    if header.file_meta.TransferSyntaxUID not in _JPEG:
        return
    # A decoder allocates memory for the size in the stream, regardless of the header.
    stream = get_frame(header.PixelData, 0, number_of_frames=1)
    width, height, samples = coded_shape(stream)
    if (width, height) != (header.Columns, header.Rows):
        expected = f"expected {header.Columns} x {header.Rows} as in the header"
        raise ImageRefused("unreadable", f"{width} x {height} pixels, {expected}")
    if samples != 1:
        raise ImageRefused("not_chest", "several samples per pixel in the compressed pixels, expected one")
    check_scans(stream)
