"""What a file says about itself, read and checked before a pixel is decoded."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from PIL import (
    BmpImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import DecompressionBombError

from cxr_pipeline.common.errors import ImageRefused

MIN_SIDE = 16

_WARNINGS = Lock()


@dataclass(frozen=True)
class Header:
    """An image whose pixels are not decoded yet.

    Args:
        image: Pillow's view of the file, which decodes when its pixels are asked for.
        chunks: the types of chunks in a PNG, such as ``b"IDAT"``; empty for other formats.
    """

    image: ImageFile.ImageFile
    chunks: frozenset[bytes] = frozenset()


def open_header(content: bytes) -> Header:
    """Open an image with Pillow, which reads the header and leaves the pixels where they are.

    The plugin is called directly and not through ``PIL.Image.open``, whose guard against decompression
    bombs warns or raises at a limit of its own.

    Raises:
        ImageRefused: ``empty`` for no bytes, ``truncated`` for a file that ends early, ``unreadable`` for
            anything else that is not one PNG, JPEG, TIFF, BMP or WEBP picture.
    """
    if not content:
        raise ImageRefused("empty", "the file has no bytes")
    kind = _kind_of(content)
    chunks = kind.check_whole(content)
    try:
        with without_warnings():
            image = kind.plugin(io.BytesIO(content))
            several = bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except DecompressionBombError as error:
        raise ImageRefused("too_large", str(error)) from error
    except Exception as error:  # what Pillow raises for a damaged header is not documented
        reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise ImageRefused(reason, f"{kind.name} header: {error}") from error
    if several:
        raise ImageRefused("unreadable", f"{kind.name} with several pictures, expected one")
    return Header(image, chunks)


def check_size(size: tuple[int, int], *, max_megapixels: float) -> None:
    """Refuse an image by its width and height in pixels.

    Raises:
        ImageRefused: ``too_large`` above ``max_megapixels``, ``too_small`` below 16 pixels a side.
    """
    width, height = size
    if width * height > max_megapixels * 1e6:
        raise too_large(width * height)
    if min(width, height) < MIN_SIDE:
        raise ImageRefused("too_small", f"{width} x {height} pixels")


def too_large(pixels: int) -> ImageRefused:
    """Make the refusal of an image of so many pixels; its text does not depend on the limit."""
    return ImageRefused("too_large", f"{pixels / 1e6:.1f} megapixels")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Let Pillow's warnings pass unseen. Filters are global, so that one thread at a time may do so."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_png(content: bytes) -> frozenset[bytes]:
    chunks: set[bytes] = set()
    start, view = 8, memoryview(content)
    while b"IEND" not in chunks:
        if start + 12 > len(content):
            raise ImageRefused("truncated", "PNG without its end chunk")
        end = start + 12 + int.from_bytes(view[start : start + 4])
        if end > len(content):
            raise ImageRefused("truncated", "PNG chunk cut short")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ImageRefused("truncated", "PNG chunk with a wrong checksum")
        chunks.add(bytes(view[start + 4 : start + 8]))
        start = end
    return frozenset(chunks)


def _check_tiff(content: bytes) -> frozenset[bytes]:
    order = "<" if content.startswith(b"II") else ">"
    layout, start = (f"{order}Q", 8) if b"+" in content[2:4] else (f"{order}I", 4)
    if len(content) < start + 8 or struct.unpack_from(layout, content, start)[0] >= len(content):
        raise ImageRefused("truncated", "TIFF without its directory")
    return frozenset()


def _check_webp(content: bytes) -> frozenset[bytes]:
    return _check_length(content, expected=int.from_bytes(content[4:8], "little") + 8)


def _check_bmp(content: bytes) -> frozenset[bytes]:
    return _check_length(content, expected=int.from_bytes(content[2:6], "little"))


def _check_length(content: bytes, *, expected: int) -> frozenset[bytes]:
    if len(content) < expected:
        raise ImageRefused("truncated", f"{len(content)} bytes, expected {expected}")
    return frozenset()


def _leave_to_decoder(content: bytes) -> frozenset[bytes]:
    """Check nothing: a JPEG does not declare its length."""
    return frozenset()


@dataclass(frozen=True)
class _Kind:
    name: str
    signature: re.Pattern[bytes]
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile]
    check_whole: Callable[[bytes], frozenset[bytes]]


_KINDS = (
    _Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, _check_png),
    _Kind("JPEG", re.compile(rb"\xff\xd8"), JpegImagePlugin.JpegImageFile, _leave_to_decoder),
    _Kind("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile, _check_tiff),
    _Kind("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile, _check_bmp),
    _Kind("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile, _check_webp),
)


def _kind_of(content: bytes) -> _Kind:
    for kind in _KINDS:
        if kind.signature.match(content):
            return kind
    names = ", ".join(kind.name for kind in _KINDS)
    raise ImageRefused("unreadable", f"expected {names} or DICOM, found a file that begins {content[:8]!r}")
