import gzip

import numpy as np
import pandas as pd
import pytest
from samples import refusal, texts, unpacked_images
from samples.pixel_table import SIDE, pixels, table

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import pixel_table, table_files
from cxr_pipeline.data.sources.pixel_table import read, reader

NAMES = ("well", "ill")


def write(folder, content, name="images.csv"):
    content.to_csv(folder / name, index=False)
    return folder / name


def opened(file, **options):
    return reader(file, unpacked=file.parent / "unpacked", **options)


@pytest.mark.parametrize("name", ["images.csv", "IMAGES.CSV.GZ"])
def test_labels_patients_and_images_belong_together(tmp_path, name):
    file = write(tmp_path, table([0, 1, 1, 0], patient=[3, 3, "x y", None]), name.lower()).rename(tmp_path / name)
    listing = read(file, labels=NAMES, patient_id="patient")
    images = listing.images
    assert images["image"].tolist() == [f"row 0000000{row}" for row in range(4)]
    assert images["labels"].tolist() == ["well", "ill", "ill", "well"]
    assert texts(images["patient_id"]) == ["3", "3", "x y", None]
    assert listing.vocabulary == set(NAMES)
    source = opened(file, patient_id="patient")
    for path, row in zip(images["path"], pixels(4), strict=True):
        assert np.array_equal(decode(source.read(path), max_megapixels=1), row.reshape(SIDE, SIDE))


def test_a_label_anywhere_in_the_row_and_a_byte_order_mark_and_blank_lines(tmp_path):
    content = table([1, 0])
    file = write(tmp_path, content[[*content.columns[1:100], "label", *content.columns[100:]]])
    file.write_text("\ufeff" + file.read_text().replace("\n", "\n\n"))
    assert read(file, labels=NAMES).images["labels"].tolist() == ["ill", "well"]
    assert np.array_equal(unpacked_images(opened(file)), pixels(2).reshape(2, SIDE, SIDE))


def test_labels_are_names_of_numbers_or_texts(tmp_path):
    texts_only = read(write(tmp_path, table(["Mass|Nodule", " ill ", 7, None])))
    assert texts(texts_only.images["labels"]) == ["Mass|Nodule", "ill", "7", None]
    assert texts_only.vocabulary == {"Mass", "Nodule", "ill", "7"}
    named = read(write(tmp_path, table([0, 2, -1, "ill", 1.5, "nan", 1.0, None])), labels=NAMES)
    assert named.images["path"].tolist() == ["0", "6", "7"]
    assert texts(named.images["labels"]) == ["well", "ill", None]
    assert set(named.refused["reason"]) == {"unknown_label"}
    assert named.refused["detail"][0] == "label '2'; expected a whole number from 0 to 1"


INVALID = ("300", "-1", "12.5", "white", "", "inf", "True", "1e99")


@pytest.mark.parametrize(("value", "images_per_block"), [*zip(INVALID, [1, 2, 3, 1000] * 2, strict=True)])
def test_a_row_with_an_invalid_pixel_is_refused_when_read(tmp_path, monkeypatch, value, images_per_block):
    monkeypatch.setattr(pixel_table, "BLOCK_PIXELS", SIDE**2 * images_per_block)
    content = table([0, 1, 0]).astype("str")
    content["pixel16"] += ".0"
    content.loc[1, ["pixel17", "pixel40"]] = value, "7000"
    file = write(tmp_path, content)
    assert len(read(file, labels=NAMES).images) == 3
    images = opened(file)
    assert refusal(images, "1").detail == "pixel17 is not a whole number from 0 to 255"
    for row in (0, 2):
        assert np.array_equal(decode(images.read(str(row)), max_megapixels=1), pixels(3)[row].reshape(SIDE, SIDE))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (table([0]).rename(columns={"label": "class"}), "257 columns: class, pixel1, pixel2, ..., pixel256"),
        (table([0], name=["a"]), "258 columns: label, name, pixel1, ..., pixel256"),
        (table([0])[["label"]], "1 columns: label; expected label, and"),
        # As of a label table with an image and a label in each row.
        (table([0]).iloc[:, :2], "2 columns: label, pixel1; expected label, and n x n .*, n at least 16"),
    ],
)
def test_unexpected_columns(tmp_path, content, found):
    file = write(tmp_path, content)
    for use in (read, opened):
        with pytest.raises(UserError, match=rf"images\.csv has {found}"):
            use(file)
        with pytest.raises(UserError, match="expected label and who, and n x n"):
            use(file, patient_id="who")


def test_no_rows_and_rows_that_are_too_long_or_too_short(tmp_path):
    file = write(tmp_path, table([0, 1, 0]))
    header, *rows = file.read_text().splitlines()
    file.write_text(header)
    assert read(file, labels=NAMES).n_rows == 0
    assert refusal(opened(file), "0").reason == "unreadable"
    file.write_text("\n".join([header, *(f"{row},7" for row in rows)]))
    for use in (read, opened):
        with pytest.raises(UserError, match="more values in a row than names in its header"):
            use(file)
    file.write_text("\n".join([header, *rows, f"{rows[0]},7"]))
    with pytest.raises(UserError, match=r"images\.csv cannot be read: .*Expected 257 fields in line 5"):
        opened(file)
    file.write_text("\n".join([header, *rows[:2], rows[2].rpartition(",")[0]]))
    assert len(read(file).images) == 3
    assert refusal(opened(file), "2").detail == "pixel256 is not a whole number from 0 to 255"


@pytest.mark.parametrize("kept", [0, 0.01, 0.75])
def test_a_truncated_file_leaves_nothing(tmp_path, kept):
    file = write(tmp_path, table([0, 1] * 300), "images.csv.gz")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    for use in (read, opened):
        with pytest.raises(UserError, match=r"images\.csv\.gz cannot be read: .*Expected one \.csv or"):
            use(file)
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_real_images(shared_data, tmp_path):
    folder = shared_data / "nih28"
    listing = read(folder, labels=[f"finding {number}" for number in range(15)])
    images = unpacked_images(reader(folder, unpacked=tmp_path))
    expected = pd.read_csv(folder / "nih_28x28.csv.gz")
    assert np.array_equal(images.reshape(len(expected), 784), expected.drop(columns="label"))
    assert listing.images["labels"].tolist() == [f"finding {number}" for number in expected["label"]]


def test_a_compressed_table_that_expands_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "_MAX_EXPANDED_BYTES", 2000)
    header = b"label," + b",".join(b"p%d" % number for number in range(16)) + b"\n"
    (tmp_path / "images.csv.gz").write_bytes(gzip.compress(header + b"0" * 2**20))
    with pytest.raises(UserError, match="it expands to more than 50 times its compressed size"):
        read(tmp_path)
