import io
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import NAME, NUMBER, compress, dataset, dicom, levels, lut, read, to_bytes, with_frame
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import dicom as dicom_module
from cxr_pipeline.data.images import dicom_headers
from cxr_pipeline.data.images.decoding import decode, read_bytes
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest, is_dicom
from cxr_pipeline.data.images.dicom_headers import coded_shape
from cxr_pipeline.data.images.grey_levels import stretch

UNCOMPRESSED = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
# The largest error of each compression.
JPEG_FAMILY = {
    **dict.fromkeys(("JPEGBaselineProcess1", "JPEGExtendedProcess2_4", "JPEGLSNearLossless", "JPEG2000"), 2),
    **dict.fromkeys(("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"), 0),
}
COMPRESSED = {**JPEG_FAMILY, "RLELossless": 0}


def refusal(content):
    with pytest.raises(ImageRefused) as refused:
        decode(content, max_megapixels=1)
    assert NAME not in str(refused.value)
    assert NUMBER not in str(refused.value)
    return refused.value


SYNTAXES = [
    (syntax, bits, signed)
    for syntax in (*COMPRESSED, *UNCOMPRESSED)
    for bits, signed in ((8, False), (12, False), (12, True), (16, True))
    if bits == 8 or syntax not in ("JPEGBaselineProcess1", "JPEGExtendedProcess2_4")
]


@pytest.mark.parametrize(("syntax", "bits", "signed"), SYNTAXES)
def test_every_transfer_syntax(syntax, bits, signed, tmp_path):
    pixels, compressed = levels(bits, signed=signed), syntax in COMPRESSED
    image = dataset(pixels, bits=bits, syntax=uid.ExplicitVRLittleEndian if compressed else syntax)
    decoded = read(compress(image, syntax, tmp_path) if compressed else to_bytes(image))
    assert decoded.dtype == np.uint8
    # Up to 8 bits keep their values. Scaling more bits to 8 reduces the error of the compression.
    expected, scale = (pixels, 1) if bits == 8 else (stretch(pixels), 2)
    assert np.abs(decoded.astype(int) - expected).max() <= COMPRESSED.get(syntax, 0) / scale


def test_a_jpeg_of_12_bits():
    image = pydicom.dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    image.Modality = "DX"
    grey = read(to_bytes(image))
    assert grey.shape == (1024, 256)
    # libjpeg-turbo decodes it to values from 0 to 264, most of them black.
    assert 40 < grey.max() <= 255
    assert len(np.unique(grey)) > 20
    frame = get_frame(image.PixelData, 0)
    assert refusal(with_frame(image, frame[: len(frame) // 2])).reason == "truncated"


@pytest.mark.parametrize("rest", [0.5, 0.99])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_truncated_compressed_pixels(syntax, rest, tmp_path):
    content = compress(dataset(levels(8)), syntax, tmp_path)
    image = pydicom.dcmread(io.BytesIO(content))
    frame = get_frame(image.PixelData, 0)
    assert refusal(with_frame(image, frame[: int(len(frame) * rest)])).reason == "truncated"
    assert refusal(content[: int(len(content) * rest)]).reason == "truncated"


def test_a_file_truncated_anywhere_is_refused():
    content = dicom(levels(12), bits=12, WindowCenter=2000, WindowWidth=1000)
    for length in (*range(0, 900, 7), *range(900, len(content), 997), len(content) - 1):
        assert refusal(content[:length]).reason in ("truncated", "unreadable", "empty", "not_chest")


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 0.5, -1])
def test_the_first_window_is_mapped_to_black_to_white(bits, function, slope):
    centre, width, intercept = 2**bits / 4 * slope, 2**bits / 8, -24
    rescale = {"RescaleSlope": slope, "RescaleIntercept": intercept, "VOILUTFunction": function}
    content = dicom(levels(bits), bits=bits, WindowCenter=[centre, 5], WindowWidth=[width, 5], **rescale)
    values = levels(bits).astype(float) * slope + intercept
    expected = {
        "LINEAR": (values - (centre - 0.5)) / (width - 1) + 0.5,
        "LINEAR_EXACT": (values - centre) / width + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (values - centre) / width)),
    }
    assert np.abs(read(content) - 255 * expected[function].clip(0, 1)).max() <= 0.51


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize(("bits_out", "first"), [(8, 0), (12, 0), (16, 100), (14, -2048)])
def test_the_first_voi_lut_takes_precedence_over_a_window(syntax, bits_out, first):
    pixels = levels(12, signed=first < 0)
    curve = np.rint((np.arange(4096) / 4095) ** 2 * (2**bits_out - 1))
    elements = {"VOILUTSequence": [lut(first, curve, bits_out)], "WindowCenter": 10, "WindowWidth": 10}
    expected = curve[np.clip(pixels.astype(int) - first, 0, 4095)] / (2**bits_out - 1) * 255
    assert np.abs(read(dicom(pixels, bits=12, syntax=syntax, **elements)) - expected).max() <= 0.51


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 700}])
@pytest.mark.parametrize("bits", [8, 12])
def test_monochrome1_is_inverted(bits, window):
    positive = read(dicom(levels(bits), bits=bits, **window))
    negative = read(dicom(levels(bits), bits=bits, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.array_equal(negative, 255 - positive)


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 65536 - 2000)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_either_sign_is_ignored_and_black(photometric, vr, value):
    pixels = (levels(12) // 8 + 1000).astype(np.int16)
    pixels[:20] = -2000
    image = dataset(pixels, bits=16, PhotometricInterpretation=photometric)
    image.add_new("PixelPaddingValue", vr, value)
    decoded = read(to_bytes(image))
    assert (decoded[:20] == 0).all()
    expected = stretch(pixels[20:])
    assert np.array_equal(decoded[20:], 255 - expected if photometric == "MONOCHROME1" else expected)


@given(bits=st.integers(1, 16), signed=st.booleans(), seed=st.integers(0, 2**31))
def test_the_order_of_values_is_kept_for_any_number_of_bits(bits, signed, seed):
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    pixels = np.random.default_rng(seed).integers(low, low + 2**bits, (20, 24)).astype(dtype)
    decoded = read(dicom(pixels, bits=bits)).astype(int)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(decoded.ravel()[order]) >= 0).all()
    assert decoded.max() - decoded.min() > 0


@pytest.mark.parametrize("syntax", JPEG_FAMILY)
def test_a_stream_of_another_size_than_in_the_header_is_not_decoded(syntax, tmp_path, monkeypatch):
    image = pydicom.dcmread(io.BytesIO(compress(dataset(levels(8)), syntax, tmp_path)))
    assert coded_shape(get_frame(image.PixelData, 0)) == (80, 64, 1)
    image.Rows = image.Columns = 32
    monkeypatch.setattr(dicom_module.gdcm_process, "decode", pytest.fail)
    assert str(refusal(to_bytes(image))) == "unreadable: 80 x 64 pixels, expected 32 x 32 as in the header"


@pytest.mark.filterwarnings("ignore")
def test_other_transfer_syntaxes_are_named(image, monkeypatch):
    other = with_frame(dataset(image, syntax=uid.HTJ2KLossless), bytes(100))
    assert str(refusal(other)).startswith("unreadable: DICOM transfer syntax High-Throughput JPEG 2000")
    missing = Path(get_testdata_file("meta_missing_tsyntax.dcm", download=False)).read_bytes()
    assert "transfer syntax none" in refusal(missing).detail
    monkeypatch.setattr("pydicom.filereader.zlib.decompress", lambda *_, **__: pytest.fail("inflated"))
    for padding in (0, 3000):
        deflated = dataset(image, syntax=uid.DeflatedExplicitVRLittleEndian)
        deflated.file_meta.add_new("PrivateInformationCreatorUID", "UI", "1.2.3")
        deflated.file_meta.add_new("MediaStorageSOPInstanceUID", "UI", "1.2" + padding * "3")
        assert "Deflated" in refusal(to_bytes(deflated)).detail


def test_files_without_pixels_with_colours_or_with_millions_of_elements_are_not_decoded(image, encode, monkeypatch):
    assert str(refusal(dicom(image, PixelData=None))) == "unreadable: DICOM without pixels"
    colours = encode(np.dstack([image] * 3), "JPEG")
    assert refusal(with_frame(dataset(image, syntax=uid.JPEGBaseline8Bit), colours)).reason == "not_chest"
    content = dicom(image, ImageComments="a comment of the radiographer " * 9)
    monkeypatch.setattr(dicom_headers, "_MAX_HEADER_BYTES", 2**9)
    assert refusal(content).detail.startswith("a DICOM header of more than")


def test_what_follows_the_pixels_is_not_parsed(image):
    content = dicom(image)
    for rest in (b"\xff" * 99, b"\x09\x00\x01\x00UN\x00\x00" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" * 9):
        assert np.array_equal(read(content + rest), image)


def test_compressed_pixels_that_take_long_to_decode_are_refused(image, encode, monkeypatch):
    progressive = encode(image, "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    bomb = dataset(image, syntax=uid.JPEGBaseline8Bit)
    assert refusal(with_frame(bomb, progressive[:-2] + 100 * last_scan + b"\xff\xd9")).reason == "too_large"
    bomb.PixelData = encapsulate([encode(image, "JPEG")], fragments_per_frame=4)
    bomb["PixelData"].is_undefined_length = True
    assert read(to_bytes(bomb)).shape == image.shape
    monkeypatch.setattr(dicom_module, "_MAX_FRAGMENTS", 4)
    assert refusal(to_bytes(bomb)).detail == "5 fragments of pixel data"
    monkeypatch.setattr(dicom_module, "_MAX_COMPRESSED_BYTES", 500)
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.RLELossless):
        frame = with_frame(dataset(image, syntax=syntax), bytes(600))
        assert refusal(frame).detail.endswith("MB of compressed pixel data")


@pytest.mark.parametrize("name", ["no_meta.dcm", "rtplan.dcm", "test-SR.dcm"])
def test_other_kinds_of_dicom_files_are_refused(name):
    content = Path(get_testdata_file(name, download=False)).read_bytes()
    assert refusal(content).reason in ("unreadable", "not_chest")


@given(st.integers(132, 700), st.integers(0, 255))
def test_a_file_with_a_changed_byte_in_the_header_is_decoded_or_refused(position, value):
    content = bytearray(dicom(levels(8), WindowCenter=100, WindowWidth=50, PixelPaddingValue=3))
    content[position] = value
    try:
        assert read(bytes(content)).dtype == np.uint8
        check_chest(bytes(content))
    except ImageRefused as refused:
        assert NAME not in str(refused)


@pytest.mark.filterwarnings("ignore")
def test_chest_radiographs_and_files_in_other_formats_are_accepted(image, encode):
    for modality, body_part in product((*MODALITIES, "dx", "CR "), (*BODY_PARTS, "Chest", "", None)):
        content = dicom(image, Modality=modality, BodyPartExamined=body_part)
        assert is_dicom(content[:132])
        check_chest(content)
    for other in (encode(image, "PNG"), b"DICM"):
        assert not is_dicom(other)
        check_chest(other)


@pytest.mark.parametrize(
    ("elements", "detail"),
    [
        ({"Modality": "CT"}, "modality CT, expected CR, DX, DR, RG"),
        ({"Modality": None}, "modality none"),
        ({"Modality": ["DX", "CT"]}, "modality another"),
        ({"BodyPartExamined": "EXTREMITY"}, "body part EXTREMITY, expected CHEST"),
        ({"BodyPartExamined": "chest of Jane Doe"}, "body part another, expected CHEST"),
        ({"PhotometricInterpretation": "RGB"}, "colour"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_images_are_not_chest_radiographs(elements, detail, image):
    content = dicom(image, **elements)
    with pytest.raises(ImageRefused, match=f"^not_chest: {detail}"):
        check_chest(content)


def test_values_of_the_header_are_neither_logged_nor_printed(image, tmp_path):
    content = dicom(image, PatientBirthDate="20010101", WindowCenter="12345678", WindowWidth="10")
    odd = content.replace(b"12345678", b"Doe^Jane").replace(b"20010101", b"May 2001").replace(b"CHEST ", b"Chest ")
    assert odd.count(b"Doe^Jane") == 2
    assert b"Chest" in odd
    (tmp_path / "odd.dcm").write_bytes(odd)
    (tmp_path / "cut.dcm").write_bytes(compress(dataset(image), "RLELossless", tmp_path)[:-40])
    script = f"""
import logging, pathlib, warnings
from cxr_pipeline.data.images.recipe import Recipe, prepare_files
logging.basicConfig(level=logging.INFO)
warnings.simplefilter("always")
decoded, cut = prepare_files(pathlib.Path({str(tmp_path)!r}), Recipe(16, "fit", 1), ["odd.dcm", "cut.dcm"])
print(decoded.shape, cut)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "(16, 16) truncated: truncated or damaged pixel data\n"
    assert ended.stderr == ""


@pytest.mark.parametrize("name", ["rsna_monochrome2_jpeg", "udacity_test1", "udacity_test2", "udacity_test3"])
def test_real_chest_radiographs(name, shared_data):
    path = shared_data / "dicom" / f"{name}.dcm"
    content = read_bytes(path)
    check_chest(content)
    decoded = decode(content, max_megapixels=2)
    assert decoded.shape == (1024, 1024)
    assert np.abs(decoded.astype(int) - pydicom.dcmread(path).pixel_array).max() <= 1
    assert decoded.max() - decoded.min() > 200
