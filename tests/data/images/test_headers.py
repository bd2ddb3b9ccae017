import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.decoding import decode


def png_of(side):
    """A grey PNG with a header of that size and pixels that do not match it."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"no pixels at all"), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(content):
    with pytest.raises(ImageRefused) as refused:
        decode(content, max_megapixels=100)
    return refused.value.reason


def test_a_large_image_is_refused_before_its_pixels_are_decoded(encode, image):
    assert refusal(png_of(20_000)) == "too_large"
    assert refusal(png_of(2_000)) == "truncated"
    bitmap = bytearray(encode(image, "BMP"))
    bitmap[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert refusal(bytes(bitmap)) == "too_large"


def test_the_limit_of_megapixels_is_that_of_the_caller(encode, image):
    content = encode(image, "PNG")
    limit = image.size / 1e6
    assert decode(content, max_megapixels=limit).shape == image.shape
    for smaller in (limit * 0.5, limit * 0.999):  # the detail does not depend on the limit
        with pytest.raises(ImageRefused, match=r"too_large: 0\.0 megapixels$"):
            decode(content, max_megapixels=smaller)


def test_a_side_below_16_pixels_is_too_small(encode, image):
    assert refusal(encode(image[:15], "PNG")) == "too_small"
    assert refusal(encode(image[:, :15], "PNG")) == "too_small"
    assert decode(encode(image[:16, :16], "PNG"), max_megapixels=1).shape == (16, 16)


def test_files_that_are_not_images_are_refused():
    assert refusal(b"") == "empty"
    for content in (bytes(500), b"GIF89a" + bytes(99)):
        assert refusal(content) == "unreadable"
    with pytest.raises(ImageRefused, match="expected PNG, JPEG, TIFF, BMP, WEBP or DICOM, found a file that begins"):
        decode(b"patient,label\n", max_megapixels=1)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_files_with_several_images_are_refused(kind, encode, image):
    content = encode(image, kind, save_all=True, append_images=[Image.fromarray(image[::-1].copy())])
    with pytest.raises(ImageRefused, match=r"unreadable: .* several images"):
        decode(content, max_megapixels=1)


def test_data_after_the_end_of_a_png_is_ignored(encode, image):
    assert np.array_equal(decode(encode(image, "PNG") + b"notes of the archive", max_megapixels=1), image)


def test_warnings_of_pillow_are_hidden_and_the_filters_of_other_threads_are_kept(encode, image):
    cut = encode(image, "TIFF", compression="tiff_lzw")
    cut = cut[: len(cut) - 20]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.warns(UserWarning):  # there is a warning to hide
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
