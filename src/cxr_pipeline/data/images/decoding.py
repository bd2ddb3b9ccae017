"""Decoding of image files to grey levels."""

import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import kornia_rs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom import decode_dicom, is_dicom
from cxr_pipeline.data.images.grey_levels import stretch
from cxr_pipeline.data.images.headers import check_scans, check_size, open_header, refusing, without_warnings

MAX_BYTES = 2**28

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_TILE = 258, 262, (322, 323)

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_bytes(path: Path) -> bytes:
    """Read a regular file of at most 256 MiB; refuse others as ``unreadable`` or ``too_large``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageRefused("unreadable", "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageRefused("too_large", f"a file of {status.st_size / 1e6:.0f} MB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageRefused("unreadable", f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def decode(content: bytes, *, max_megapixels: float, note: Callable[[str], object] | None = None) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG, TIFF, BMP, WEBP or DICOM image to grey levels, uint8 [height, width].

    Colour is converted with the weights of ITU-R BT.601, so that three equal channels give exactly that channel.
    Transparent pixels become black. More than 8 bits are scaled so that the percentiles 0.5 and 99.5 become 0 and 255.
    The EXIF orientation is applied. For DICOM see `dicom.decode_dicom`. ``note`` receives a text about an image that is
    decoded, but may not look as intended.

    Images above ``max_megapixels`` are refused before their pixels are decoded; the limit is lower for pixels of more
    than four bytes. With a limit of 100, no file of at most ``MAX_BYTES`` takes more than 2 GiB of memory or 10 s. An
    `ImageRefused` error has one of the reasons in ``manifest.REASONS``.

    Example:
        >>> content = cv2.imencode(".png", np.arange(256, dtype=np.uint8).reshape(16, 16))[1].tobytes()
        >>> decode(content, max_megapixels=1)[0, :4]
        array([0, 1, 2, 3], dtype=uint8)
    """
    if is_dicom(content):
        grey = decode_dicom(content, max_megapixels=max_megapixels, note=note)
    else:
        image = open_header(content)
        bits = _sample_bits(content, image)
        bytes_per_pixel = max(sum(bits), max(bits) * len(image.getbands())) / 8
        check_size(image.size, max_megapixels=max_megapixels, bytes_per_pixel=bytes_per_pixel)
        # A decoder allocates and fills whole tiles, which may be larger than the image.
        tile = [side for tag in _TIFF_TILE for side in _tiff_tag(image, tag)]
        if math.prod(tile) > max_megapixels * 1e6:
            raise ImageRefused("too_large", f"TIFF tiles of {' x '.join(map(str, tile))} pixels")
        if image.format == "JPEG":
            check_scans(content)
        with refusing("truncated", "truncated or damaged pixel data: {error}"), without_warnings():
            grey = _apply_orientation(_read_grey(content, image), content, image)
    darkest, brightest, _, _ = cv2.minMaxLoc(grey)
    if darkest == brightest:
        raise ImageRefused("empty", f"every pixel is {darkest:.0f}")
    return grey


def _sample_bits(content: bytes, image: ImageFile) -> tuple[int, ...]:
    return (content[24],) if image.format == "PNG" else _tiff_tag(image, _TIFF_BITS) or (8,)


def _read_grey(content: bytes, image: ImageFile) -> NDArray[np.uint8]:
    """Choose the decoder. Kornia is the fastest, OpenCV supports 16-bit colour, and Pillow reads all other formats."""
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        # Kornia's binding to libjpeg-turbo treats warnings as errors. OpenCV and Pillow ignore them and fill the
        # missing lower part of a truncated image with grey.
        luma = _decode_with_kornia(lambda: kornia_rs.io.decode_image_jpegturbo(content, "mono"), image)
        if luma is None:
            image.load()  # raises a more specific error
            raise ImageRefused("truncated", "damaged JPEG data")
        return luma[..., 0]
    is_png, bits = image.format == "PNG", max(_sample_bits(content, image))
    if bits > 8 and (is_png or image.mode in ("RGB", "RGBA")):
        return _read_deep(content)
    if image.format == "WEBP":
        # Pillow needs four times as much memory.
        return _to_grey(_read_with_opencv(content), blue_first=True)
    if is_png and bits == 8 and image.mode in ("L", "RGB", "RGBA") and b"tRNS" not in content:
        pixels = _decode_with_kornia(lambda: kornia_rs.image.Image.decode(content, image.mode).numpy(), image)
        if pixels is not None:
            return _to_grey(pixels)
    return _read_with_pillow(image)


def _decode_with_kornia(decoder: Callable[[], Any], image: ImageFile) -> NDArray[np.uint8] | None:
    """Return uint8 [height, width, channels], or None if the decoder fails."""
    try:
        pixels: NDArray[np.uint8] = np.asarray(decoder())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # a panic in Rust is not a subclass of Exception
        return None
    return pixels if pixels.shape[1::-1] == image.size else None


def _read_with_pillow(image: ImageFile) -> NDArray[np.uint8]:
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        white_is_zero = _tiff_tag(image, _TIFF_PHOTOMETRIC) == (0,)
        return stretch(values.max() - values if white_is_zero else values)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"))
    return _to_grey(np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")))


def _read_deep(content: bytes) -> NDArray[np.uint8]:
    """Decode 16 bits per sample, of which Pillow keeps only 8 in colour images."""
    pixels = _read_with_opencv(content)
    if pixels.ndim == 2:
        return stretch(pixels)
    grey = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    opaque = pixels.shape[2] == 3 or pixels[..., 3].min() == np.iinfo(pixels.dtype).max
    return stretch(grey if opaque else grey * (pixels[..., 3] / np.iinfo(pixels.dtype).max))


def _read_with_opencv(content: bytes) -> NDArray[Any]:
    pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageRefused("truncated", "truncated or damaged pixel data")
    return pixels


def _to_grey(pixels: NDArray[np.uint8], *, blue_first: bool = False) -> NDArray[np.uint8]:
    """Convert uint8 [height, width, 1, 3 or 4] to grey [height, width]; transparency becomes black."""
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    grey = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY if blue_first else cv2.COLOR_RGB2GRAY)
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        grey = cv2.multiply(grey, pixels[..., 3], scale=1 / 255)
    return np.asarray(grey, dtype=np.uint8)


def _apply_orientation(grey: NDArray[np.uint8], content: bytes, image: ImageFile) -> NDArray[np.uint8]:
    """Apply the EXIF orientation, except to a TIFF, for which the decoders have done so."""
    # Pillow decodes the pixels of a PNG again to look for EXIF data behind them.
    exif_in_png = b"eXIf" in content or "Raw profile type exif" in image.info
    if image.format == "TIFF" or (image.format == "PNG" and not exif_in_png):
        return grey
    orientation = image.getexif().get(ExifTag.Orientation, 1)
    if orientation == 1:
        return grey
    oriented = Image.fromarray(grey)
    oriented.getexif()[ExifTag.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(oriented))


def _tiff_tag(image: ImageFile, tag: int) -> tuple[int, ...]:
    values = getattr(image, "tag_v2", {}).get(tag, ())
    return values if isinstance(values, tuple) else (values,)
