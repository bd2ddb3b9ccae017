import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    RLELossless,
)

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import decoding
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest, decode_dicom, is_dicom
from cxr_pipeline.data.images.intensity import stretch
from cxr_pipeline.data.images.jpeg_headers import coded_size
from cxr_pipeline.data.images.recipe import Recipe

Image = np.ndarray
NAME, NUMBER = "Doe^Jane", "MRN-4711"


def dataset(
    pixels: Image, *, bits: int | None = None, syntax: str = ExplicitVRLittleEndian, **elements: Any
) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3.4"
    image.PatientName, image.PatientID = NAME, NUMBER
    image.Modality, image.BodyPartExamined, image.PhotometricInterpretation = "DX", "CHEST", "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[:2]
    image.SamplesPerPixel = 1
    image.BitsAllocated = 8 * pixels.itemsize
    image.BitsStored = bits or image.BitsAllocated
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    image.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    image["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            del image[keyword]
        else:
            setattr(image, keyword, value)
    return image


def to_bytes(image: Dataset) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(content, image, enforce_file_format=True)
    return content.getvalue()


def dicom(pixels: Image, **elements: Any) -> bytes:
    return to_bytes(dataset(pixels, **elements))


def read(content: bytes) -> Image:
    return decode_dicom(content, max_megapixels=1)


def refusal(content: bytes, **limits: Any) -> ImageRefused:
    with pytest.raises(ImageRefused) as refused:
        decode(content, **{"max_megapixels": 1, **limits})
    assert NAME not in str(refused.value)
    assert NUMBER not in str(refused.value)
    return refused.value


def levels(bits: int, *, signed: bool = False, size: int = 64) -> Image:
    """Smooth grey levels over the whole range of so many bits."""
    rows, columns = np.mgrid[:size, : size + 16]
    image = (np.sin(rows / 9) + np.cos(columns / 13) + 2) / 4
    image = (image - image.min()) / (image.max() - image.min()) * (2**bits - 1) - (2 ** (bits - 1) if signed else 0)
    return np.rint(image).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def lut(first: int, entries: Image, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def transcode(image: Dataset, syntax: str, folder: Path) -> bytes:
    """Compress with GDCM."""
    if syntax == "RLELossless":
        image.compress(RLELossless)
        return to_bytes(image)
    (folder / "in.dcm").write_bytes(to_bytes(image))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(folder / "in.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(folder / "out.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return (folder / "out.dcm").read_bytes()


def twelve_bit_jpeg() -> Dataset:
    """An image of one of pydicom's test files, as pydicom would read it."""
    return pydicom.dcmread(get_testdata_file("JPGExtended.dcm", download=False))


JPEG_FAMILY = {
    "JPEGBaselineProcess1": 2,
    "JPEGExtendedProcess2_4": 2,
    "JPEGLosslessProcess14": 0,
    "JPEGLosslessProcess14_1": 0,
    "JPEGLSLossless": 0,
    "JPEGLSNearLossless": 2,
    "JPEG2000Lossless": 0,
    "JPEG2000": 2,
}
COMPRESSED = {**JPEG_FAMILY, "RLELossless": 0}
DEEP = [name for name in COMPRESSED if name not in ("JPEGBaselineProcess1", "JPEGExtendedProcess2_4")]


def test_dicom_is_known_by_its_mark(encode: Callable[..., bytes], image: Image) -> None:
    assert is_dicom(dicom(image))
    assert is_dicom(dicom(image)[:132])
    assert not is_dicom(encode(image, "PNG"))
    assert not is_dicom(b"DICM")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_eight_bits_keep_their_grey_values(syntax: str, image: Image) -> None:
    decoded = read(dicom(image // 2 + 20, syntax=syntax))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, image // 2 + 20)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_every_transfer_syntax_of_eight_bits(syntax: str, tmp_path: Path) -> None:
    decoded = read(transcode(dataset(levels(8)), syntax, tmp_path))
    assert np.abs(decoded.astype(int) - levels(8)).max() <= COMPRESSED[syntax]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", [*DEEP, ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_transfer_syntax_of_more_bits(syntax: str, bits: int, signed: bool, tmp_path: Path) -> None:
    pixels = levels(bits, signed=signed)
    content = (
        transcode(dataset(pixels, bits=bits), syntax, tmp_path)
        if syntax in COMPRESSED
        else dicom(pixels, bits=bits, syntax=syntax)
    )
    assert np.abs(read(content).astype(int) - stretch(pixels)).max() <= (1 if COMPRESSED.get(syntax) else 0)


def test_jpeg_of_twelve_bits() -> None:
    image = twelve_bit_jpeg()
    image.Modality = "DX"
    grey = read(to_bytes(image))
    assert grey.shape == (1024, 256)
    # What libjpeg-turbo makes of it reaches from 0 to 264, most of it black.
    assert 40 < grey.max() <= 255
    assert len(np.unique(grey)) > 20


@pytest.mark.parametrize("rest", [0.5, 0.99])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_compressed_pixels_cut_short(syntax: str, rest: float, tmp_path: Path) -> None:
    content = transcode(dataset(levels(8)), syntax, tmp_path)
    image = pydicom.dcmread(io.BytesIO(content))
    frame = get_frame(image.PixelData, 0)
    image.PixelData = encapsulate([frame[: int(len(frame) * rest)]])
    image["PixelData"].is_undefined_length = True
    assert refusal(to_bytes(image)).reason == "truncated"
    assert refusal(content[: int(len(content) * rest)]).reason == "truncated"


def test_twelve_bit_jpeg_cut_short() -> None:
    image = twelve_bit_jpeg()
    frame = get_frame(image.PixelData, 0)
    image.PixelData = encapsulate([frame[: len(frame) // 2]])
    image["PixelData"].is_undefined_length = True
    assert refusal(to_bytes(image)).reason == "truncated"


def test_a_file_cut_anywhere_is_refused() -> None:
    content = dicom(levels(12), bits=12, WindowCenter=2000, WindowWidth=1000)
    for length in (*range(0, 900, 7), *range(900, len(content), 997), len(content) - 1):
        assert refusal(content[:length]).reason in ("truncated", "unreadable", "empty", "not_chest")


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 0.5, -1])
def test_a_window_becomes_black_to_white(function: str, slope: float) -> None:
    pixels = levels(12)
    centre, width, intercept = 1000 * slope, 600, -24
    content = dicom(
        pixels,
        bits=12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[centre, 5],
        WindowWidth=[width, 5],
        VOILUTFunction=function,
    )
    values = pixels.astype(float) * slope + intercept
    expected = {
        "LINEAR": (values - (centre - 0.5)) / (width - 1) + 0.5,
        "LINEAR_EXACT": (values - centre) / width + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (values - centre) / width)),
    }
    assert np.abs(read(content) - 255 * expected[function].clip(0, 1)).max() <= 0.51


@pytest.mark.parametrize("window", [(1000, 0), (1000, -3), (None, 100), (float("nan"), 100)])
def test_a_window_that_cannot_be_applied_is_none(window: tuple[Any, Any]) -> None:
    pixels = levels(12)
    elements = {name: value for name, value in zip(("WindowCenter", "WindowWidth"), window, strict=True) if value}
    assert np.array_equal(read(dicom(pixels, bits=12, **elements)), stretch(pixels))


def test_a_window_of_eight_bits_is_applied(image: Image) -> None:
    decoded = read(dicom(image, WindowCenter=128, WindowWidth=64))
    assert (decoded[image < 90] == 0).all()
    assert (decoded[image > 165] == 255).all()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("bits_out", "first"), [(8, 0), (12, 0), (16, 100)])
def test_the_first_voi_lut_goes_before_a_window(syntax: str, bits_out: int, first: int) -> None:
    pixels = levels(12)
    curve = np.rint((np.arange(4096) / 4095) ** 2 * (2**bits_out - 1))
    elements = {"VOILUTSequence": [lut(first, curve, bits_out)], "WindowCenter": 10, "WindowWidth": 10}
    expected = curve[np.clip(pixels.astype(int) - first, 0, 4095)] / (2**bits_out - 1) * 255
    assert np.abs(read(dicom(pixels, bits=12, syntax=syntax, **elements)) - expected).max() <= 0.51


def test_a_voi_lut_that_begins_below_zero() -> None:
    pixels = levels(12, signed=True)
    curve = np.arange(4096)[::-1] * 4.0
    expected = curve[pixels.astype(int) + 2048] / curve.max() * 255
    assert np.abs(read(dicom(pixels, bits=12, VOILUTSequence=[lut(-2048, curve, 14)])) - expected).max() <= 0.51


def test_a_voi_lut_of_packed_bytes() -> None:
    item = lut(0, np.zeros(4096), 8)
    item.LUTData = (np.arange(4096) // 16).astype(np.uint8).tobytes()
    pixels = levels(12)
    assert np.array_equal(read(dicom(pixels, bits=12, VOILUTSequence=[item])), pixels // 16)


def test_the_modality_lut_goes_before_the_window() -> None:
    pixels = levels(12)
    curve = np.rint(np.sqrt(np.arange(4096) / 4095) * 65535)
    content = dicom(
        pixels, bits=12, ModalityLUTSequence=[lut(0, curve, 16)], WindowCenter=32767.5, WindowWidth=65535,
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    assert np.abs(read(content) - curve[pixels] / 65535 * 255).max() <= 0.51


@pytest.mark.parametrize("voi", [{}, {"WindowCenter": 1500, "WindowWidth": 700}])
@pytest.mark.parametrize("bits", [8, 12])
def test_monochrome1_is_the_negative(bits: int, voi: dict[str, float]) -> None:
    pixels = levels(bits)
    white_is_low = (2**bits - 1 - pixels).astype(pixels.dtype)
    mirrored = {**voi, "WindowCenter": 2**bits - voi["WindowCenter"]} if voi else {}
    positive = read(dicom(pixels, bits=bits, **voi)).astype(int)
    negative = read(dicom(white_is_low, bits=bits, PhotometricInterpretation="MONOCHROME1", **mirrored))
    assert np.abs(positive - negative).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_decides_nothing_and_is_black(photometric: str) -> None:
    pixels = (levels(12) // 8 + 1000).astype(np.int16)
    padded = pixels.copy()
    padded[:20] = -2000
    decoded = read(dicom(padded, bits=16, PixelPaddingValue=-2000, PhotometricInterpretation=photometric))
    assert (decoded[:20] == 0).all()
    expected = stretch(pixels[20:])
    assert np.array_equal(decoded[20:], 255 - expected if photometric == "MONOCHROME1" else expected)


def test_a_range_of_padding_and_one_with_the_wrong_sign() -> None:
    pixels = levels(12).astype(np.int16)
    pixels[:10], pixels[10:20] = -2000, -1990
    content = dicom(pixels, bits=16, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert (read(content)[:20] == 0).all()
    image = dataset(pixels[10:], bits=16)
    image.add_new("PixelPaddingValue", "US", 65536 - 1990)
    assert np.array_equal(read(to_bytes(image))[10:], stretch(pixels[20:]))


@given(bits=st.integers(1, 16), signed=st.booleans(), seed=st.integers(0, 2**31))
def test_any_number_of_bits_keeps_the_order_of_values(bits: int, signed: bool, seed: int) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    pixels = np.random.default_rng(seed).integers(low, low + 2**bits, (20, 24)).astype(dtype)
    if pixels.min() == pixels.max():
        return
    decoded = read(dicom(pixels, bits=bits)).astype(int)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(decoded.ravel()[order]) >= 0).all()
    assert decoded.max() - decoded.min() > 0


CASES = {
    "several frames": ({"NumberOfFrames": 2}, "unreadable", "several frames"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "not_chest", "colour"),
    "no image": ({"PhotometricInterpretation": None}, "unreadable", "without an image"),
    "two samples": ({"SamplesPerPixel": 2}, "not_chest", "several samples"),
    "no pixels": ({"PixelData": None}, "unreadable", "without pixels"),
    "no rows": ({"Rows": None}, "unreadable", "Rows is not there"),
    "more rows than pixels": ({"Rows": 300}, "truncated", "cut short"),
    "too large": ({"Rows": 65535, "Columns": 65535}, "too_large", "4294.8 megapixels"),
    "too small": ({"Rows": 15}, "too_small", "x 15 pixels"),
    "32 bits": ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "unreadable", "32 of 32 bits"),
    "one bit": ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "unreadable", "1 of 1 bits"),
    "more bits stored than there": ({"BitsStored": 12, "HighBit": 11}, "unreadable", "12 of 8 bits"),
    "bits elsewhere": ({"BitsStored": 4, "HighBit": 7}, "unreadable", "high bit"),
    "no sign": ({"PixelRepresentation": 7}, "unreadable", "neither signed"),
    "flat rescale": ({"RescaleSlope": 0, "RescaleIntercept": 3}, "empty", "all values equal"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_grey_image_is_refused(case: str, image: Image) -> None:
    elements, reason, words = CASES[case]
    refused = refusal(dicom(image, **elements))
    assert refused.reason == reason
    assert words in refused.detail


def test_colour_is_refused(image: Image) -> None:
    rgb = np.dstack([image] * 3)
    content = dicom(rgb, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
    assert refusal(content).reason == "not_chest"
    with pytest.raises(ImageRefused, match="not_chest: colour"):
        check_chest(content)


@pytest.mark.parametrize("pixels", [np.full((20, 20), 7, np.uint8), np.full((20, 20), 700, np.uint16)])
def test_a_constant_image_is_empty(pixels: Image) -> None:
    assert refusal(dicom(pixels)).reason == "empty"
    assert refusal(dicom(pixels, PixelPaddingValue=int(pixels[0, 0]))).reason == "empty"


def test_too_large_is_said_before_the_pixels_are_looked_at(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr_pipeline.data.images.dicom._read_pixels", pytest.fail)
    assert refusal(dicom(image), max_megapixels=1e-6).reason == "too_large"


@pytest.mark.parametrize("syntax", JPEG_FAMILY)
def test_a_stream_larger_than_the_header_says_is_not_decoded(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pydicom.dcmread(io.BytesIO(transcode(dataset(levels(8)), syntax, tmp_path)))
    assert coded_size(get_frame(image.PixelData, 0)) == (80, 64)
    image.Rows = image.Columns = 32
    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", pytest.fail)
    refused = refusal(to_bytes(image))
    assert refused.reason == "unreadable"
    assert "80 x 64 pixels, but 32 x 32" in refused.detail


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc4\xff", b"\xff\x4f\xff\x51", b"\xff\xd8abc"])
def test_a_stream_that_does_not_say_its_size(stream: bytes) -> None:
    with pytest.raises(ValueError, match="without size"):
        coded_size(stream)


def test_other_transfer_syntaxes_are_named(image: Image) -> None:
    other = dataset(image)
    other.PixelData = encapsulate([bytes(100)])
    other["PixelData"].is_undefined_length = True
    other.file_meta.TransferSyntaxUID = HTJ2KLossless
    refused = refusal(to_bytes(other))
    assert refused.reason == "unreadable"
    assert "High-Throughput JPEG 2000" in refused.detail
    deflated = refusal(dicom(image, syntax=DeflatedExplicitVRLittleEndian))
    assert deflated.reason == "unreadable"
    assert "Deflated" in deflated.detail


def test_deflated_images_are_not_inflated(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    content = dicom(image, syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("pydicom.dcmread", lambda *_, **__: pytest.fail("inflated"))
    assert refusal(content).reason == "unreadable"


@pytest.mark.parametrize("name", ["meta_missing_tsyntax.dcm", "no_meta.dcm", "rtplan.dcm", "test-SR.dcm"])
def test_odd_files_of_pydicom_are_refused(name: str) -> None:
    content = Path(get_testdata_file(name, download=False)).read_bytes()
    assert refusal(content, max_megapixels=100).reason in ("unreadable", "not_chest")


def test_no_transfer_syntax_is_said() -> None:
    content = Path(get_testdata_file("meta_missing_tsyntax.dcm", download=False)).read_bytes()
    assert "transfer syntax none" in refusal(content).detail


@given(junk=st.binary(max_size=300))
def test_junk_behind_the_mark_is_refused(junk: bytes) -> None:
    content = bytes(128) + b"DICM" + junk
    assert refusal(content).reason in ("unreadable", "truncated", "not_chest")
    with pytest.raises(ImageRefused):
        check_chest(content)


@given(st.integers(132, 700), st.integers(0, 255))
def test_a_changed_byte_in_the_header_raises_nothing_else(at: int, value: int) -> None:
    content = bytearray(dicom(levels(8), WindowCenter=100, WindowWidth=50, PixelPaddingValue=3))
    content[at] = value
    try:
        assert read(bytes(content)).dtype == np.uint8
        check_chest(bytes(content))
    except ImageRefused as refused:
        assert NAME not in str(refused)


@pytest.mark.parametrize("modality", [*MODALITIES, "dx", "CR "])
@pytest.mark.parametrize("body_part", [*BODY_PARTS, "Chest", "", None])
def test_chest_images_pass(modality: str, body_part: str | None, image: Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_chest(dicom(image, Modality=modality, BodyPartExamined=body_part))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Modality": "CT"}, "modality CT, expected CR, DX, DR, RG"),
        ({"Modality": None}, "modality none"),
        ({"Modality": ["DX", "CT"]}, "modality another"),
        ({"BodyPartExamined": "EXTREMITY"}, "body part EXTREMITY, expected CHEST"),
        ({"BodyPartExamined": "chest of Jane Doe"}, "body part another, expected CHEST"),
        ({"PhotometricInterpretation": "RGB"}, "colour"),
    ],
)
def test_other_images_are_no_chest_images(elements: dict[str, Any], words: str, image: Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = dicom(image, **elements)
    with pytest.raises(ImageRefused) as refused:
        check_chest(content)
    assert refused.value.reason == "not_chest"
    assert refused.value.detail.startswith(words)


def test_other_lists_of_what_is_taken(image: Image) -> None:
    content = dicom(image, Modality="OT", BodyPartExamined="PORT CHEST")
    check_chest(content, modalities=("ot",), body_parts=("port chest",))
    with pytest.raises(ImageRefused, match="modality OT"):
        check_chest(content, body_parts=("PORT CHEST",))
    with pytest.raises(ImageRefused, match="body part PORT CHEST"):
        check_chest(content, modalities=("OT",))


def test_what_is_no_dicom_is_not_asked(encode: Callable[..., bytes], image: Image) -> None:
    check_chest(encode(image, "PNG"))
    check_chest(b"")


def test_odd_values_are_not_shown(image: Image, tmp_path: Path) -> None:
    content = dicom(image, PatientBirthDate="20010101", WindowCenter="12345678", WindowWidth="10")
    odd = content.replace(b"12345678", b"Doe^Jane").replace(b"20010101", b"May 2001").replace(b"CHEST ", b"Chest ")
    assert odd.count(b"Doe^Jane") == 2
    assert b"Chest" in odd
    (tmp_path / "odd.dcm").write_bytes(odd)
    compressed = dataset(image)
    compressed.compress(RLELossless)
    (tmp_path / "cut.dcm").write_bytes(to_bytes(compressed)[:-40])
    script = f"""
import logging, pathlib, warnings
from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.images.dicom import check_chest
logging.basicConfig(level=logging.INFO)
warnings.simplefilter("always")
for name in ("odd.dcm", "cut.dcm"):
    content = pathlib.Path({str(tmp_path)!r}, name).read_bytes()
    check_chest(content)
    try:
        decode(content, max_megapixels=1)
        print("decoded")
    except ImageRefused as refusal:
        print(refusal.reason)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["decoded", "truncated"]
    assert ended.stderr == ""


def test_no_memory_is_not_blamed_on_the_image(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", fail)
    with pytest.raises(MemoryError):
        decode(dicom(image), max_megapixels=1)


REAL = {
    "rsna_monochrome2_jpeg.dcm": None,
    "udacity_test1.dcm": None,
    "udacity_test2.dcm": None,
    "udacity_test3.dcm": None,
    "not_chest_tibia_j2k.dcm": "body part EXTREMITY",
    "not_chest_rgb_secondary_capture.dcm": "modality OT",
}


@pytest.mark.parametrize("name", REAL)
def test_real_images(name: str, shared_data: Path) -> None:
    content = decoding.read_bytes(shared_data / "dicom" / name)
    if REAL[name]:
        with pytest.raises(ImageRefused, match=f"not_chest: {REAL[name]}"):
            check_chest(content)
        return
    check_chest(content)
    decoded = decode(content, max_megapixels=2)
    assert decoded.shape == (1024, 1024)
    assert np.abs(decoded.astype(int) - pydicom.dcmread(shared_data / "dicom" / name).pixel_array).max() <= 1
    assert decoded.max() - decoded.min() > 200


def test_a_real_image_made_monochrome1_is_the_same_image(shared_data: Path) -> None:
    content = decoding.read_bytes(shared_data / "dicom" / "rsna_monochrome2_jpeg.dcm")
    image = pydicom.dcmread(io.BytesIO(content))
    image.decompress()
    image.PixelData = (255 - image.pixel_array).tobytes()
    image.PhotometricInterpretation = "MONOCHROME1"
    recipe = Recipe(size=224, mode="fit", max_megapixels=2)
    assert np.array_equal(recipe.prepare(to_bytes(image)), recipe.prepare(content))
