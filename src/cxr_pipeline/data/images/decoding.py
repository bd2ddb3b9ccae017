"""From the bytes of an image to its grey levels, or to the reason why not."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import kornia_rs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom import decode_dicom, is_dicom
from cxr_pipeline.data.images.headers import Header, check_size, open_header, without_warnings
from cxr_pipeline.data.images.intensity import stretch

MAX_BYTES = 2**30

_PNG_MODES = {0: "L", 2: "RGB", 6: "RGBA"}
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_bytes(path: Path) -> bytes:
    """Read an image's file, if it is a regular file of at most one gibibyte.

    Raises:
        ImageRefused: ``unreadable`` or ``too_large``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageRefused("unreadable", "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageRefused("too_large", f"a file of {status.st_size / 1e6:.0f} MB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageRefused("unreadable", f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def decode(content: bytes, *, max_megapixels: float) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG, TIFF, BMP, WEBP or DICOM image to grey.

    Colour becomes grey by the weights of ITU-R BT.601; an image of three equal channels gives exactly that
    channel. Transparent pixels are laid on black. More than 8 bits are scaled so that the percentiles 0.5
    and 99.5 become 0 and 255. The EXIF orientation is obeyed. DICOM has rules of its own: ``dicom.decode_dicom``.

    Args:
        content: the bytes of the file.
        max_megapixels: a larger image is refused before its pixels are decoded.

    Returns:
        uint8 [height, width], 0 black to 255 white.

    Raises:
        ImageRefused: ``unreadable``, ``truncated``, ``empty``, ``too_large``, ``too_small`` or ``not_chest``.
    """
    grey = (decode_dicom if is_dicom(content) else _decode_picture)(content, max_megapixels=max_megapixels)
    darkest, brightest, _, _ = cv2.minMaxLoc(grey)
    if darkest == brightest:
        raise ImageRefused("empty", f"every pixel is {darkest:.0f}")
    return grey


def _decode_picture(content: bytes, *, max_megapixels: float) -> NDArray[np.uint8]:
    header = open_header(content)
    check_size(header.image.size, max_megapixels=max_megapixels)
    try:
        return _turn(_read_grey(content, header), header)
    except (ImageRefused, MemoryError):
        raise
    except Exception as error:  # what the decoders raise for damaged pixels is not documented
        raise ImageRefused("truncated", f"pixels cut short or damaged: {error}") from error


def _read_grey(content: bytes, header: Header) -> NDArray[np.uint8]:
    image = header.image
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        return _read_jpeg(content, header)
    if image.format == "PNG":
        return _read_png(content, header)
    if image.mode in ("RGB", "RGBA") and max(_tiff_tag(header, _TIFF_BITS), default=8) > 8:
        return _read_deep(content)
    return _read_with_pillow(header)


def _read_jpeg(content: bytes, header: Header) -> NDArray[np.uint8]:
    """Read the luma of a JPEG, without its chroma.

    Kornia's binding to libjpeg-turbo takes warnings for errors. OpenCV and Pillow let them pass, and with
    them images whose lower part is a grey filling.
    """
    luma = _decode_by_rust(lambda: kornia_rs.io.decode_image_jpegturbo(content, "mono"), header)
    if luma is None:
        with without_warnings():
            header.image.load()
        raise ImageRefused("truncated", "damaged JPEG data")
    return luma[..., 0]


def _read_png(content: bytes, header: Header) -> NDArray[np.uint8]:
    bits, colour_type = content[24], content[25]
    if bits == 16:
        return _read_deep(content)
    if bits == 8 and colour_type in _PNG_MODES and b"tRNS" not in header.chunks:
        mode = _PNG_MODES[colour_type]
        pixels = _decode_by_rust(lambda: kornia_rs.image.Image.decode(content, mode).numpy(), header)
        if pixels is not None:
            return _flatten(pixels)
    return _read_with_pillow(header)


def _decode_by_rust(decoder: Callable[[], Any], header: Header) -> NDArray[np.uint8] | None:
    """Return uint8 [height, width, channels], or None for what the decoder refuses."""
    try:
        pixels: NDArray[np.uint8] = np.asarray(decoder())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # a panic in Rust is no Exception
        return None
    return pixels if pixels.shape[1::-1] == header.image.size else None


def _read_with_pillow(header: Header) -> NDArray[np.uint8]:
    image = header.image
    with without_warnings():
        image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        white_is_zero = _tiff_tag(header, _TIFF_PHOTOMETRIC) == (0,)
        return stretch(values.max() - values if white_is_zero else values)
    if image.has_transparency_data:
        return _flatten(np.asarray(image.convert("RGBA")))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    return _flatten(np.asarray(image.convert("RGB")))


def _read_deep(content: bytes) -> NDArray[np.uint8]:
    """Read 16 bits a sample, which Pillow would cut to 8 where there is colour."""
    pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageRefused("truncated", "pixels cut short or damaged")
    if pixels.ndim == 2:
        return stretch(pixels)
    grey = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    opaque = pixels.shape[2] == 3 or pixels[..., 3].min() == np.iinfo(pixels.dtype).max
    return stretch(grey if opaque else grey * (pixels[..., 3] / np.iinfo(pixels.dtype).max))


def _flatten(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn uint8 [height, width, 1, 3 or 4] into grey [height, width], transparency into black."""
    channels = pixels.shape[2]
    if channels == 1:
        return pixels[..., 0]
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if channels == 3 else cv2.COLOR_RGBA2GRAY)
    if channels == 4 and pixels[..., 3].min() < 255:
        grey = cv2.multiply(grey, pixels[..., 3], scale=1 / 255)
    return np.asarray(grey, dtype=np.uint8)


def _turn(grey: NDArray[np.uint8], header: Header) -> NDArray[np.uint8]:
    """Obey the EXIF orientation; in a TIFF the decoders have done so already."""
    image = header.image
    exif_in_png = b"eXIf" in header.chunks or "Raw profile type exif" in image.info
    if image.format == "TIFF" or (image.format == "PNG" and not exif_in_png):
        return grey
    with without_warnings():
        turn = _TURNS.get(image.getexif().get(ExifTag.Orientation, 1))
    return grey if turn is None else np.array(Image.fromarray(grey).transpose(turn))


def _tiff_tag(header: Header, tag: int) -> tuple[int, ...]:
    values = getattr(header.image, "tag_v2", {}).get(tag, ())
    return values if isinstance(values, tuple) else (values,)
