"""What attributes of PS3.3 C.7.6.3, C.11.1 and C.11.2 do: a test for every cell of the table in docs/guides/layouts.md.

The expected grey levels are written out from the formulas of the standard.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from dicom_files import change, dataset, dicom, levels, lut, read, to_bytes
from pydicom import Dataset, Sequence

from cxr_pipeline.common.errors import ImageRefused

BITS = 12
STORED = levels(BITS).astype(float)
WINDOW = {"WindowCenter": 1700, "WindowWidth": 2000}
COLUMNS = ("missing or empty", "out of range", "several values")


def scale(values, dark, bright):
    return 255 * ((values - dark) / (bright - dark)).clip(0, 1)


def linear(values, centre=1700, width=2000):
    return 255 * ((values - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def robust(values, known=None):
    return scale(values, *np.percentile(values if known is None else known, (0.5, 99.5)))


def entries(first=0, curve=None, bits=BITS, **changes):
    """A LUT that reverses 12-bit values, with some elements changed or, if they are None, missing."""
    return change(lut(first, 4095 - np.arange(4096) if curve is None else curve, bits), changes)


def words(values):
    return np.asarray(values).astype("<u2").tobytes()


def voi(**changes):
    """A header with a VOI LUT, whose `entries` are changed, and a window."""
    return {"VOILUTSequence": [entries(**changes)], **WINDOW}


PADDED = np.where(np.arange(80) < 5, 4095.0, STORED)
UNPADDED = np.pad(robust(STORED[:, 5:]), ((0, 0), (5, 0)))
BELOW_1000 = np.where(PADDED < 1000, robust(PADDED, PADDED[PADDED < 1000]), 0)
FLAT = entries(curve=np.full(4096, 7))
NO_DATA = entries(LUTData=None)
REVERSED = scale(4095 - STORED, 0, 4095)

# Attribute and column of the table: what the header says, and the expected grey levels or reason of the refusal. None
# stands for a missing element.
CASES = {
    "Samples per Pixel": [
        ("missing or empty", {"SamplesPerPixel": None}, robust(STORED)),
        ("missing or empty", {"SamplesPerPixel": ""}, robust(STORED)),
        ("out of range", {"SamplesPerPixel": 3}, "not_chest: several samples"),
        ("several values", {"SamplesPerPixel": [1, 1]}, "unreadable: .*SamplesPerPixel is missing or not one integer"),
    ],
    "Photometric Interpretation": [
        ("missing or empty", {"PhotometricInterpretation": None}, "unreadable: DICOM without an image"),
        ("missing or empty", {"PhotometricInterpretation": ""}, "unreadable: DICOM without an image"),
        ("out of range", {"PhotometricInterpretation": "MONOCHROME3"}, "not_chest: colour"),
        ("out of range", {"PhotometricInterpretation": "PALETTE COLOR"}, "not_chest: colour"),
        ("several values", {"PhotometricInterpretation": ["MONOCHROME1", "MONOCHROME2"]}, "not_chest"),
    ],
    "Rows, Columns": [
        ("missing or empty", {"Rows": None}, "unreadable: .*Rows is missing"),
        ("missing or empty", {"Columns": ""}, "unreadable: .*Columns is missing"),
        ("out of range", {"Rows": 15}, "too_small: .* x 15 pixels"),
        ("out of range", {"Columns": 40000}, "too_large: 2.6 megapixels"),
        ("out of range", {"Columns": 90}, "truncated: truncated or damaged pixel data"),
        ("several values", {"Rows": [64, 64]}, "unreadable"),
    ],
    "Bits Allocated": [
        ("missing or empty", {"BitsAllocated": None}, "unreadable: .*BitsAllocated is missing"),
        ("out of range", {"BitsAllocated": 32}, "unreadable: 12 of 32 bits"),
        ("out of range", {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "unreadable: 1 of 1 bits"),
        ("several values", {"BitsAllocated": [16, 16]}, "unreadable"),
    ],
    "Bits Stored": [
        ("missing or empty", {"BitsStored": None}, "unreadable: .*BitsStored is missing"),
        ("out of range", {"BitsStored": 17}, "unreadable: 17 of 16 bits"),
        ("several values", {"BitsStored": [12, 12]}, "unreadable"),
    ],
    "High Bit": [
        ("missing or empty", {"HighBit": None}, robust(STORED)),
        ("out of range", {"HighBit": 15}, "unreadable: High Bit"),
        ("several values", {"HighBit": [11, 11]}, "unreadable"),
    ],
    "Pixel Representation": [
        ("missing or empty", {"PixelRepresentation": None}, "unreadable: .*PixelRepresentation is missing"),
        ("out of range", {"PixelRepresentation": 2}, "unreadable: .*neither signed nor unsigned"),
        ("several values", {"PixelRepresentation": [0, 0]}, "unreadable"),
    ],
    "Number of Frames": [
        ("missing or empty", {"NumberOfFrames": None}, robust(STORED)),
        ("missing or empty", {"NumberOfFrames": ""}, robust(STORED)),
        ("out of range", {"NumberOfFrames": 0}, "unreadable: .* 0 frames, expected one"),
        ("out of range", {"NumberOfFrames": 2}, "unreadable: .* 2 frames, expected one"),
        ("several values", {"NumberOfFrames": [1, 1]}, "unreadable"),
    ],
    "Pixel Padding Value": [
        ("missing or empty", {"PixelPaddingRangeLimit": 4095}, robust(PADDED)),
        ("out of range", {"PixelPaddingValue": 60000}, robust(PADDED)),
        ("several values", {"PixelPaddingValue": [4095, 4095]}, robust(PADDED)),
    ],
    "Pixel Padding Range Limit": [
        ("missing or empty", {"PixelPaddingValue": 4095}, UNPADDED),
        ("out of range", {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 1000}, BELOW_1000),
        ("out of range", {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "empty: every pixel is padding"),
        ("several values", {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": [1, 2]}, UNPADDED),
    ],
    "Pixel Aspect Ratio": [
        ("missing or empty", {"PixelAspectRatio": None}, robust(STORED)),
        ("out of range", {"PixelAspectRatio": [1, 3]}, robust(STORED)),
    ],
    "Modality LUT Sequence": [
        ("missing or empty", {"ModalityLUTSequence": [], "RescaleSlope": 2, **WINDOW}, linear(2 * STORED)),
        ("out of range", {"ModalityLUTSequence": [NO_DATA], "RescaleSlope": 2, **WINDOW}, linear(2 * STORED)),
        ("out of range", {"ModalityLUTSequence": [NO_DATA]}, "unreadable: a modality LUT that cannot be applied"),
        ("out of range", {"ModalityLUTSequence": [FLAT]}, "empty: the modality LUT or rescale makes all values equal"),
        ("several values", {"ModalityLUTSequence": [NO_DATA, entries(), FLAT], **WINDOW}, linear(4095 - STORED)),
    ],
    "Rescale Slope": [
        ("missing or empty", {"RescaleIntercept": -100, **WINDOW}, linear(STORED - 100)),
        ("missing or empty", {"RescaleIntercept": -100, "RescaleSlope": "", **WINDOW}, linear(STORED - 100)),
        ("out of range", {"RescaleSlope": 0, "RescaleIntercept": 5}, "empty: .*makes all values equal"),
        ("out of range", {"RescaleSlope": 1e308, "RescaleIntercept": 5}, "unreadable: .*not finite"),
        ("several values", {"RescaleSlope": [1, 2], "RescaleIntercept": 5}, "unreadable: several values of RescaleS"),
    ],
    "Rescale Intercept": [
        ("missing or empty", {"RescaleSlope": 0.5, **WINDOW}, linear(0.5 * STORED)),
        ("out of range", {"RescaleSlope": 1, "RescaleIntercept": float("inf")}, "unreadable: .*not finite"),
        ("several values", {"RescaleSlope": 1, "RescaleIntercept": [1, 2]}, "unreadable: several values"),
    ],
    "VOI LUT Sequence": [
        ("missing or empty", {"VOILUTSequence": [], **WINDOW}, linear(STORED)),
        ("out of range", {"VOILUTSequence": [NO_DATA], **WINDOW}, linear(STORED)),
        ("out of range", {"VOILUTSequence": [FLAT], **WINDOW}, linear(STORED)),
        ("out of range", {"VOILUTSequence": [FLAT]}, robust(STORED)),
        ("several values", {"VOILUTSequence": [NO_DATA, FLAT, entries(), entries(9)], **WINDOW}, REVERSED),
    ],
    "LUT Descriptor": [
        ("missing or empty", voi(LUTDescriptor=None), linear(STORED)),
        ("out of range", voi(first=5000), linear(STORED)),
        ("out of range", voi(LUTDescriptor=[4096, 0, 16]), REVERSED),
        ("out of range", voi(curve=1000 - np.arange(65536) // 66, bits=10), scale(1000 - STORED // 66, 0, 1023)),
        ("out of range", {"RescaleIntercept": -1000, **voi(first=65536 - 1000)}, REVERSED),
        ("several values", voi(LUTDescriptor=[4096, 0]), linear(STORED)),
        ("several values", voi(LUTDescriptor=[4096, 0, 12, 12]), linear(STORED)),
    ],
    "LUT Data": [
        ("missing or empty", voi(LUTData=b""), linear(STORED)),
        ("out of range", voi(LUTData=words(np.arange(3000))), scale(STORED.clip(0, 2999), 0, 4095)),
        ("out of range", voi(LUTData=words([*range(4096), 5, 5])), scale(STORED, 0, 4095)),
    ],
    "Window Center, Window Width": [
        ("missing or empty", {"WindowCenter": 1700}, robust(STORED)),
        ("missing or empty", {"WindowCenter": "", "WindowWidth": 2000}, robust(STORED)),
        ("out of range", {"WindowCenter": 1700, "WindowWidth": 0.5}, robust(STORED)),
        ("out of range", {"WindowCenter": 1700, "WindowWidth": 1}, 255.0 * (STORED > 1699.5)),
        ("out of range", {"WindowCenter": float("nan"), "WindowWidth": 100}, robust(STORED)),
        ("out of range", {"WindowCenter": 1700, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"}, robust(STORED)),
        ("out of range", {"WindowCenter": 90000, "WindowWidth": 100}, robust(STORED)),
        ("several values", {"WindowCenter": [0, 1700, 9], "WindowWidth": [0, 2000, 9]}, linear(STORED)),
        ("several values", {"WindowCenter": [90000, 1700], "WindowWidth": [10, 2000, 9]}, linear(STORED)),
    ],
    "VOI LUT Function": [
        ("missing or empty", {"VOILUTFunction": "", **WINDOW}, linear(STORED)),
        ("out of range", {"VOILUTFunction": "CUBIC", **WINDOW}, linear(STORED)),
        ("several values", {"VOILUTFunction": ["SIGMOID", "LINEAR"], **WINDOW}, linear(STORED)),
    ],
}
IGNORED = {"PlanarConfiguration": 1, "SmallestImagePixelValue": 5, "LargestImagePixelValue": 9, "RescaleType": "HU"}
IGNORED |= {"WindowCenterWidthExplanation": "soft", "PresentationLUTShape": "INVERSE"}
FLAT_CASES = [(attribute, *case) for attribute, cases in CASES.items() for case in cases]
FLAT_CASES.append(("attributes that are ignored", "", IGNORED | WINDOW, linear(STORED)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("attribute", "column", "elements", "expected"), FLAT_CASES)
def test_attribute(attribute, column, elements, expected):
    pixels = (PADDED if "Padding" in attribute else STORED).astype(np.uint16)
    content = dicom(pixels, bits=BITS, **elements)
    if isinstance(expected, str):
        with pytest.raises(ImageRefused, match=f"^{expected}"):
            read(content)
    else:
        assert np.abs(read(content) - expected).max() <= 0.501


def test_every_cell_of_the_table_has_a_test():
    page = (Path(__file__).parents[3] / "docs" / "guides" / "layouts.md").read_text()
    header, _, *rows = re.findall(r"^\|.*\|$", page.partition("### DICOM attributes")[2].partition("\n## ")[0], re.M)
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["attribute", *COLUMNS]
    cells = {}
    for row in rows:
        attribute, *texts = (cell.strip() for cell in row.strip("|").split("|"))
        cells[attribute] = {column for column, text in zip(COLUMNS, texts, strict=True) if text}
    assert cells == {attribute: {column for column, *_ in cases} for attribute, cases in CASES.items()}


def test_a_lut_in_numbers_or_bytes():
    numbers, bytes_of_entries = entries(), entries(bits=8)
    numbers.add_new("LUTData", "US", (4095 - np.arange(4096)).tolist())
    bytes_of_entries.LUTData = (255 - np.arange(4096) // 16).astype(np.uint8).tobytes()
    for item, expected in ((numbers, REVERSED), (bytes_of_entries, 255 - levels(BITS) // 16)):
        assert np.abs(read(dicom(levels(BITS), bits=BITS, VOILUTSequence=[item])) - expected).max() <= 0.501


def damaged_lut(vr, data):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", vr, data)
    return Sequence([item])


@pytest.mark.parametrize(
    ("keyword", "vr", "element"),
    [
        ("VOILUTSequence", "SQ", damaged_lut("SS", [-5, 3])),
        ("VOILUTSequence", "SQ", damaged_lut("FD", [math.nan, 3.0])),
        ("ModalityLUTSequence", "SQ", damaged_lut("LO", "Doe^Jane")),
        ("ModalityLUTSequence", "US", 5),
        ("VOILUTSequence", "US", 5),
        ("PixelPaddingValue", "FD", 1e30),
    ],
)
def test_an_element_of_a_wrong_type_is_a_refusal_without_its_value(keyword, vr, element):
    image = dataset(levels(BITS), bits=BITS)
    image.add_new(keyword, vr, element)
    with pytest.raises(ImageRefused, match=r"^unreadable: a damaged DICOM header: \w+Error in the conversion [a-z ]*$"):
        read(to_bytes(image))


def test_an_element_that_occurs_twice_has_its_last_value():
    content = dicom(levels(BITS), bits=BITS, WindowCenter="900", WindowWidth="2000")
    centre = content.index(b"\x28\x00\x50\x10")
    element = content[centre : centre + 12]
    twice = content[:centre] + element + element.replace(b"900 ", b"1700") + content[centre + 12 :]
    assert np.abs(read(twice) - linear(STORED)).max() <= 0.501


@pytest.mark.parametrize("signed", [False, True])
def test_the_histogram_gives_the_same_levels_as_percentiles_of_the_pixels(signed):
    values = levels(16, signed=signed)
    expected = robust(7 - 0.5 * values.astype(float))
    assert np.abs(read(dicom(values, RescaleSlope=-0.5, RescaleIntercept=7)) - expected).max() <= 0.501
