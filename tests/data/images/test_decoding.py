import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import decoding, headers
from cxr_pipeline.data.images.decoding import decode, read_bytes


def refusal(content):
    with pytest.raises(ImageRefused) as refused:
        decode(content, max_megapixels=10)
    return refused.value.reason


def colour(image):
    return np.dstack([image, image[::-1], image[:, ::-1]])


def sixteen_bits(image):
    """The image as from a detector: 12 of 16 bits, with one dead and one hot pixel."""
    deep = image.astype(np.uint16) * 8 + 1000
    deep[0, 0], deep[0, 1] = 0, 65535
    return deep


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        *((mode, "PNG", {}) for mode in ("1", "L", "RGB", "RGBA", "LA", "P")),
        *((mode, "TIFF", {}) for mode in ("L", "RGB")),
        ("L", "TIFF", {"compression": "tiff_lzw"}),
        ("L", "TIFF", {"tiffinfo": {262: 0}}),  # white is zero
        ("L", "BMP", {}),
        ("L", "WEBP", {"lossless": True}),
    ],
)
def test_grey_levels_are_decoded_exactly(mode, kind, options, image, encode):
    if mode == "1":
        image = (image > 127) * np.uint8(255)
    decoded = decode(encode(Image.fromarray(image).convert(mode), kind, **options), max_megapixels=1)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, image)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_colour_is_converted_by_itu_r_601(kind, image, encode):
    red, green, blue = (channel.astype(float) for channel in np.moveaxis(colour(image), 2, 0))
    decoded = decode(encode(colour(image), kind), max_megapixels=1)
    assert np.abs(decoded - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.51


def test_jpegs_are_decoded_as_by_opencv(image, encode):
    for content in (encode(image, "JPEG"), encode(colour(image), "JPEG"), encode(image, "JPEG", progressive=True)):
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(decode(content, max_megapixels=1), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind, image, encode):
    content = encode(Image.fromarray(np.dstack([image] * 3)).convert("CMYK"), kind)
    assert np.abs(decode(content, max_megapixels=1).astype(int) - image).mean() < 2


def test_transparency_becomes_black(image, encode):
    alpha = np.full_like(image, 255)
    alpha[:10], alpha[10:20] = 0, 128
    for pixels in (np.dstack([image, image, image, alpha]), np.dstack([image, alpha])):
        decoded = decode(encode(pixels, "PNG"), max_megapixels=1)
        assert np.abs(decoded - np.rint(image * (alpha / 255))).max() <= 1
        assert not decoded[:10].any()
    level = int(image[20, 20])
    decoded = decode(encode(image, "PNG", transparency=level), max_megapixels=1)
    assert np.array_equal(decoded, np.where(image == level, 0, image))


DEEP = {
    "grey PNG": lambda deep, encode: encode(deep, "PNG"),
    "grey TIFF": lambda deep, encode: encode(deep, "TIFF"),
    "big-endian TIFF": lambda deep, encode: encode(deep.astype(">u2"), "TIFF"),
    "white-is-zero TIFF": lambda deep, encode: encode(deep.max() - deep, "TIFF", tiffinfo={262: 0}),
    "float TIFF": lambda deep, encode: encode((deep / 65535).astype(np.float32), "TIFF"),
    "RGB PNG": lambda deep, _: cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes(),
    "RGB TIFF": lambda deep, _: cv2.imencode(".tiff", np.dstack([deep] * 3))[1].tobytes(),
    "RGBA PNG": lambda deep, _: cv2.imencode(".png", np.dstack([*[deep] * 3, np.full_like(deep, 65535)]))[1].tobytes(),
}


@pytest.mark.parametrize("form", DEEP)
def test_more_than_8_bits_are_scaled_by_percentiles(form, image, encode):
    deep = sixteen_bits(image)
    low, high = np.percentile(deep, (0.5, 99.5))
    expected = np.clip((deep - low) * 255 / (high - low), 0, 255)
    decoded = decode(DEEP[form](deep, encode), max_megapixels=1)
    assert np.abs(decoded - expected).max() <= 1
    assert (decoded.min(), decoded.max()) == (0, 255)


def test_values_that_are_not_finite_become_black(image, encode):
    values = image.astype(np.float32)
    values[3, 3:6] = np.nan, np.inf, -np.inf
    decoded = decode(encode(values, "TIFF"), max_megapixels=1)
    assert not decoded[3, 3:6].any()
    low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5))
    assert np.abs(decoded - np.clip((image - low) * 255 / (high - low), 0, 255))[4:].max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "16-bit PNG", "16-bit TIFF", "RGB TIFF"])
def test_the_exif_orientation_is_applied(kind, orientation, image, encode):
    pixels = sixteen_bits(image) if kind.startswith("16") else colour(image) if kind.startswith("RGB") else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    *_, form = kind.split()
    turned = decode(encode(pixels, form, exif=exif, **options), max_megapixels=1)
    upright = Image.fromarray(decode(encode(pixels, form, **options), max_megapixels=1))
    upright.getexif()[0x0112] = orientation
    assert np.array_equal(turned, np.asarray(ImageOps.exif_transpose(upright)))


FORMS = ("PNG", "JPEG", "TIFF", "LZW TIFF", "16-bit TIFF", "RGB16 TIFF", "BMP", "WEBP", "16-bit PNG")


@pytest.fixture(scope="module")
def contents(image, encode):
    written = {kind: encode(image, kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")}
    deep = {f"16-bit {kind}": encode(sixteen_bits(image), kind) for kind in ("PNG", "TIFF")}
    rgb16 = DEEP["RGB TIFF"](sixteen_bits(image), encode)
    return {**written, **deep, "LZW TIFF": encode(image, "TIFF", compression="tiff_lzw"), "RGB16 TIFF": rgb16}


@settings(max_examples=200, deadline=None)
@given(form=st.sampled_from(FORMS), fraction=st.floats(0, 1, exclude_max=True))
def test_an_incomplete_file_is_refused_unless_all_pixels_are_there(form, fraction, contents):
    content = contents[form]
    assert refusal(content[: len(content) // 2]) == "truncated"
    try:
        decoded = decode(content[: int(fraction * len(content))], max_megapixels=1)
    except ImageRefused as refused:
        assert refused.reason in ("truncated", "unreadable", "empty")
    else:
        assert np.array_equal(decoded, decode(content, max_megapixels=1))
        assert "TIFF" in form
        assert fraction > 0.99


def test_a_jpeg_without_its_lower_part_is_truncated_even_with_an_end_marker(contents):
    cut = contents["JPEG"][: len(contents["JPEG"]) * 3 // 4] + b"\xff\xd9"
    assert cv2.imdecode(np.frombuffer(cut, np.uint8), 0) is not None
    assert refusal(cut) == "truncated"


@settings(max_examples=100, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_of_a_png_is_detected(position, change, contents):
    content = bytearray(contents["PNG"])
    content[int(position * len(content))] ^= change
    refusal(bytes(content))


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(FORMS), data=st.data())
def test_a_damaged_file_is_decoded_or_refused(form, data, contents):
    content = bytearray(contents[form])
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))):
        content[position] = value
    try:
        decoded = decode(bytes(content), max_megapixels=10)
    except ImageRefused:
        return
    assert (decoded.dtype, decoded.ndim) == (np.uint8, 2)


@pytest.mark.parametrize(("level", "dtype"), [(0, np.uint8), (7, np.uint8), (7, np.uint16)])
def test_a_constant_image_is_empty(level, dtype, encode):
    assert refusal(encode(np.full((20, 20), level, dtype), "PNG")) == "empty"


def test_pillow_decodes_when_kornia_panics(monkeypatch, image, encode):
    class Panicking:
        @staticmethod
        def decode(*_):
            raise BaseException("a panic in Rust")

    monkeypatch.setattr(decoding.kornia_rs.image, "Image", Panicking)
    assert np.array_equal(decode(encode(image, "PNG"), max_megapixels=1), image)


@pytest.mark.parametrize("folder", ["nih_originals/images", "kermany_native"])
def test_real_images_are_decoded_as_by_opencv(folder, shared_data):
    paths = sorted(path for path in (shared_data / folder).rglob("*") if path.is_file())[:40]
    assert len(paths) >= 15
    for path in paths:
        expected = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(decode(read_bytes(path), max_megapixels=100), expected), path.name


def test_a_large_image_is_refused_before_its_pixels_are_decoded(encode, image):
    content = encode(image, "PNG")
    for side, reason in ((20_000, "too_large"), (2_000, "truncated")):
        header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
        assert refusal(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]) == reason
    bitmap = bytearray(encode(image, "BMP"))
    bitmap[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert refusal(bytes(bitmap)) == "too_large"


def test_a_jpeg_of_very_many_scans_is_refused(encode, image):
    content = encode(image, "JPEG", progressive=True)
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageRefused, match="too_large: a JPEG of 105 scans, expected at most 100"):
        decode(content[:-2] + (105 - content.count(b"\xff\xda")) * last_scan + b"\xff\xd9", max_megapixels=1)
    # The same two bytes elsewhere are no scans.
    assert decode(encode(image, "JPEG", comment=200 * b"\xff\xda"), max_megapixels=1).shape == image.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_metadata_in_very_many_pieces_is_refused(encode, image, kind, monkeypatch):
    content = encode(image, kind)
    assert decode(content, max_megapixels=1).shape == image.shape
    chunk = b"\0\0\0\0teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    start, piece = (2, b"\xff\xfe\0\2") if kind == "JPEG" else (33, chunk)
    monkeypatch.setattr(headers, "MAX_READS", 1000)
    with pytest.raises(ImageRefused, match=r"too_large: .*more than 1000 (pieces|chunks)"):
        decode(content[:start] + 1001 * piece + content[start:], max_megapixels=1)


@pytest.mark.parametrize(("colour", "kind"), [("", ".png"), ("RGBA", ".png"), ("RGB", ".png"), ("RGB", ".tiff")])
def test_the_limit_of_megapixels_is_lower_for_pixels_of_many_bytes(image, colour, kind):
    pixels = np.dstack([image.astype(np.uint16) * 257] * len(colour)) if colour else image
    content = cv2.imencode(kind, pixels)[1].tobytes()
    limit = image.size / 1e6 * max(1, len(colour) / 2)
    assert decode(content, max_megapixels=limit).shape == image.shape
    depth = f" of {2 * len(colour)} bytes" if colour else ""
    for smaller in (limit * 0.5, limit * 0.999):  # the detail does not depend on the limit
        with pytest.raises(ImageRefused, match=rf"too_large: 0\.0 megapixels{depth}$"):
            decode(content, max_megapixels=smaller)


def tiff_of_one_tile(width, height):
    """A grey TIFF of 64 x 64 pixels in one deflated tile."""
    data = zlib.compress(bytes(range(256)) * (width * height // 256))
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height, 324: 8, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_with_tiles_larger_than_the_limit_is_refused():
    assert decode(tiff_of_one_tile(64, 64), max_megapixels=1).shape == (64, 64)
    with pytest.raises(ImageRefused, match="too_large: TIFF tiles of 2048 x 1024 pixels"):
        decode(tiff_of_one_tile(2048, 1024), max_megapixels=1)


def test_files_that_are_not_images_are_refused():
    assert refusal(b"") == "empty"
    for content in (bytes(500), b"GIF89a" + bytes(99)):
        assert refusal(content) == "unreadable"
    for content, found in (
        (b"patient,label\n", "a text file"),
        (b"GIF89a" + bytes(99), "a file that begins with b'GIF"),
    ):
        with pytest.raises(ImageRefused, match=f"expected PNG, JPEG, TIFF, BMP, WEBP or DICOM, found {found}"):
            decode(content, max_megapixels=1)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_files_with_several_images_are_refused(kind, encode, image):
    content = encode(image, kind, save_all=True, append_images=[Image.fromarray(image[::-1].copy())])
    with pytest.raises(ImageRefused, match=r"unreadable: .* several images"):
        decode(content, max_megapixels=1)


def test_data_after_the_end_of_a_png_is_ignored(encode, image):
    assert np.array_equal(decode(encode(image, "PNG") + b"notes of the archive", max_megapixels=1), image)
