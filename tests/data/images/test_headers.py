import io
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.images.headers import check_size, open_header


def png_of(width: int, height: int, *, pixels: bytes) -> bytes:
    """A grey PNG with a header of our choice and pixels that need not fit it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(content: bytes, max_megapixels: float = 100) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(content, max_megapixels=max_megapixels)
    return refused.value.reason


def test_a_image_of_20000_pixels_is_refused_before_its_pixels_are_looked_at() -> None:
    assert refusal(png_of(20_000, 20_000, pixels=b"no pixels at all")) == "too_large"
    assert refusal(png_of(2_000, 2_000, pixels=b"no pixels at all")) == "truncated"


def test_a_bitmap_that_claims_gigapixels_is_refused(encode: Callable[..., bytes], image: np.ndarray) -> None:
    content = bytearray(encode(image, "BMP"))
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert refusal(bytes(content)) == "too_large"


def test_the_limit_of_megapixels_is_the_callers(encode: Callable[..., bytes], image: np.ndarray) -> None:
    content = encode(image, "PNG")
    limit = image.size / 1e6
    assert decode(content, max_megapixels=limit).shape == image.shape
    assert refusal(content, max_megapixels=limit * 0.999) == "too_large"


def test_the_detail_of_too_large_does_not_depend_on_the_limit() -> None:
    details = set()
    for limit in (1, 2):
        with pytest.raises(ImageRefused) as refused:
            check_size((3000, 1000), max_megapixels=limit)
        details.add(refused.value.detail)
    assert details == {"3.0 megapixels"}


def test_a_side_below_16_pixels_is_too_small(encode: Callable[..., bytes], image: np.ndarray) -> None:
    assert refusal(encode(image[:15], "PNG")) == "too_small"
    assert refusal(encode(image[:, :15], "PNG")) == "too_small"
    assert decode(encode(image[:16, :16], "PNG"), max_megapixels=1).shape == (16, 16)


@pytest.mark.parametrize("content", [b"patient,label\n1,effusion\n", b"BM", b"\x00" * 500, b"GIF89a" + b"\0" * 99])
def test_what_is_no_image_is_unreadable(content: bytes) -> None:
    assert refusal(content) in ("unreadable", "truncated")
    with pytest.raises(ImageRefused, match="expected PNG, JPEG, TIFF, BMP, WEBP or DICOM, found a file that begins"):
        open_header(b"patient,label\n")


def test_no_bytes_are_empty() -> None:
    assert refusal(b"") == "empty"


def test_several_pictures_in_a_file_are_refused(encode: Callable[..., bytes], image: np.ndarray) -> None:
    other = [Image.fromarray(image[::-1].copy())]
    for kind in ("TIFF", "PNG", "WEBP"):
        content = encode(image, kind, save_all=True, append_images=other)
        with pytest.raises(ImageRefused, match="several pictures") as refused:
            decode(content, max_megapixels=1)
        assert refused.value.reason == "unreadable"


def test_a_png_may_have_anything_after_its_end(encode: Callable[..., bytes], image: np.ndarray) -> None:
    assert np.array_equal(decode(encode(image, "PNG") + b"notes of the archive", max_megapixels=1), image)


def test_pillow_warns_nobody_and_the_filters_stay(encode: Callable[..., bytes], image: np.ndarray) -> None:
    cut = encode(image, "TIFF", compression="tiff_lzw")
    cut = cut[: len(cut) - 20]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.warns(UserWarning):  # that there is a warning to hide
            Image.open(io.BytesIO(cut))
        before = list(warnings.filters)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(8) as pool:
            reasons = list(pool.map(refusal, [cut] * 200))
        sys.setswitchinterval(interval)
        assert warnings.filters == before
    assert not seen
    assert set(reasons) == {"truncated"}
