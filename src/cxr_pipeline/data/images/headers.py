"""Checks of image files before any pixel is decoded."""

import io
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, get_ident
from typing import Any, BinaryIO

from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.Image import DecompressionBombError

from cxr_pipeline.common.errors import ImageRefused

MIN_SIDE = 16
MAX_SCANS = 100
# Segments of metadata in a JPEG, chunks of a PNG: Pillow takes a second for a few hundred thousand.
MAX_READS = 500_000

_FORMATS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (rb"\xff\xd8", JpegImagePlugin.JpegImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    "BMP": (rb"BM", BmpImagePlugin.BmpImageFile),
    "WEBP": (rb"RIFF(?s:....)WEBP", WebPImagePlugin.WebPImageFile),
}
# Without control characters in the first bytes.
_TEXT = re.compile(rb"[\s\x20-\x7e\x80-\xff]{1,64}\Z|[\s\x20-\x7e\x80-\xff]{64}")
# The marker, the length of the header and its number of components (ITU-T T.81, B.2.3).
_START_OF_SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e][\x01-\x04]")
_WARNINGS = Lock()
_FILTERS = ExitStack()
_INSIDE: list[int] = []


def open_header(content: bytes) -> ImageFile.ImageFile:
    """Open an image with Pillow, which reads only the header until the pixels are requested.

    Files without bytes are refused as ``empty``, others than PNG, JPEG, TIFF, BMP and WEBP with one image as
    ``unreadable``.
    """
    if not content:
        raise ImageRefused("empty", "the file has no bytes")
    name = next((name for name, (signature, _) in _FORMATS.items() if re.match(signature, content)), None)
    if name is None:
        found = "a text file" if _TEXT.match(content) else f"a file that begins with {content[:8]!r}"
        raise ImageRefused("unreadable", f"expected {', '.join(_FORMATS)} or DICOM, found {found}")
    _check_complete(name, content)
    too_many = ImageRefused("too_large", f"metadata in more than {MAX_READS} pieces")
    with refusing("unreadable", f"{name} header: {{error}}"), without_warnings():
        # Not `PIL.Image.open`, which warns or raises at its own limit on the number of pixels.
        image = _FORMATS[name][1](LimitedFile(io.BytesIO(content), too_many, n_reads=MAX_READS))
        several = bool(getattr(image, "is_animated", False))
    if several:
        raise ImageRefused("unreadable", f"{name} file with several images, expected one")
    return image


@contextmanager
def refusing(reason: str, detail: str) -> Iterator[None]:
    """Refuse an image for any error of a decoder, because decoders do not document what they raise for damaged files.

    In the detail, ``{error}`` is replaced by the message of the error and ``{kind}`` by the name of its class. Messages
    about DICOM files may quote the name of the patient.
    """
    try:
        yield
    except (ImageRefused, MemoryError):
        raise
    except DecompressionBombError as error:
        raise ImageRefused("too_large", str(error)) from None
    except Exception as error:
        if "truncated" in str(error).lower():
            reason = "truncated"
        raise ImageRefused(reason, detail.format(error=error, kind=type(error).__name__)) from None


class LimitedFile:
    """A file of which only so much can be read, because millions of tiny elements of a header take minutes to parse."""

    def __init__(
        self, file: BinaryIO, refusal: ImageRefused, *, n_reads: int = sys.maxsize, n_bytes: int = sys.maxsize - 1
    ) -> None:
        self._file, self._refusal = file, refusal
        self._n_reads, self._n_bytes = n_reads, n_bytes

    def read(self, size: int = -1) -> bytes:
        """Read like the file, and raise the refusal above one of the limits."""
        content = self._file.read(size if 0 <= size <= self._n_bytes else self._n_bytes + 1)
        self._n_reads -= 1
        self._n_bytes -= len(content)
        if min(self._n_reads, self._n_bytes) < 0:
            raise self._refusal
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def check_size(size: tuple[int, int], *, max_megapixels: float, bytes_per_pixel: float = 1) -> None:
    """Refuse an image, of width and height in pixels, above ``max_megapixels`` or below 16 pixels a side."""
    width, height = size
    if width * height * max(1, bytes_per_pixel / 4) > max_megapixels * 1e6:
        # The detail must not depend on the limit.
        depth = f" of {bytes_per_pixel:g} bytes" if bytes_per_pixel > 4 else ""
        raise ImageRefused("too_large", f"{width * height / 1e6:.1f} megapixels{depth}")
    if min(width, height) < MIN_SIDE:
        raise ImageRefused("too_small", f"{width} x {height} pixels")


def check_scans(content: bytes) -> None:
    """Refuse a JPEG stream with very many scans, of which a few bytes each take as long as decoding an image once.

    Progressive files have about ten. See
    https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf.
    """
    n_scans = len(_START_OF_SCAN.findall(content))
    if n_scans > MAX_SCANS:
        raise ImageRefused("too_large", f"a JPEG of {n_scans} scans, expected at most {MAX_SCANS}")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings, in any number of threads at the same time.

    Warning filters are global: the first thread inside changes them, and the last one restores them.
    """
    with _WARNINGS:
        if not _INSIDE:
            _FILTERS.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _INSIDE.append(get_ident())
    try:
        yield
    finally:
        with _WARNINGS:
            _INSIDE.remove(get_ident())
            if not _INSIDE:
                _FILTERS.close()


def _check_complete(name: str, content: bytes) -> None:
    """Check that a file is as long as its header says, for the formats of which Pillow does not notice it."""
    if name == "PNG":
        _check_png_chunks(content)
    elif name == "TIFF":
        order = "<" if content.startswith(b"II") else ">"
        offset, start = (f"{order}Q", 8) if b"+" in content[2:4] else (f"{order}I", 4)
        if len(content) < start + 8 or struct.unpack_from(offset, content, start)[0] >= len(content):
            raise ImageRefused("truncated", "TIFF without a directory")
    elif name == "WEBP" and len(content) < (expected := int.from_bytes(content[4:8], "little") + 8):
        raise ImageRefused("truncated", f"{len(content)} bytes, expected {expected}")


def _check_png_chunks(content: bytes) -> None:
    start, view = 8, memoryview(content)
    for _ in range(MAX_READS):
        end = start + 12 + int.from_bytes(view[start : start + 4])
        if end > len(content):
            raise ImageRefused("truncated", "truncated PNG chunk, or PNG without an end chunk")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ImageRefused("truncated", "PNG chunk with a wrong checksum")
        if bytes(view[start + 4 : start + 8]) == b"IEND":
            return
        start = end
    raise ImageRefused("too_large", f"a PNG of more than {MAX_READS} chunks")
