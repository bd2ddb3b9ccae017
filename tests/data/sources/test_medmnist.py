import io
import zipfile
from itertools import product

import cv2
import numpy as np
import pytest
from samples import unpacked_images
from samples.medmnist import draw
from samples.medmnist import write_splits as write

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import medmnist, table_files
from cxr_pipeline.data.sources.medmnist import read, reader

NAMES = ("well", "ill")


def unpack(file):
    return unpacked_images(reader(file, unpacked=file.parent / "unpacked"))


@pytest.mark.parametrize("images_per_block", [2, 1000])
def test_splits_labels_and_images_belong_together(tmp_path, monkeypatch, images_per_block):
    monkeypatch.setattr(medmnist, "BLOCK_PIXELS", 28 * 28 * images_per_block)
    file = write(tmp_path, val_labels=np.array([-1, 0, 1]))
    listing = read(file, labels=NAMES)
    assert listing.images[["image", "path", "labels", "given_split"]].to_numpy().tolist() == [
        ["test/00000", "8", "ill", "test"],
        ["test/00001", "9", "well", "test"],
        ["train/00000", "0", "well", "train"],
        ["train/00001", "1", "ill", "train"],
        ["train/00002", "2", "well", "train"],
        ["train/00003", "3", "ill", "train"],
        ["validation/00001", "6", "well", "validation"],
        ["validation/00002", "7", "ill", "validation"],
    ]
    assert listing.refused.to_numpy().tolist() == [
        ["train/00004", "unknown_label", "label '2'; expected a whole number from 0 to 1"],
        ["validation/00000", "unknown_label", "label '-1'; expected a whole number from 0 to 1"],
    ]
    assert listing.vocabulary == set(NAMES)
    images = reader(file, unpacked=tmp_path / "unpacked")
    for row, pixels in enumerate([*draw("train"), *draw("val"), *draw("test")]):
        assert np.array_equal(decode(images.read(str(row)), max_megapixels=1), pixels)


def test_several_labels_at_once_and_labels_without_names(tmp_path):
    train, val = [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]], [[0, 0, 0]] * 3
    file = write(tmp_path, train_labels=np.array(train), val_labels=np.array(val), test_images=None)
    named = read(file, labels=("A", "B b", "C")).images["labels"]
    assert named.tolist() == ["A|C", "", "B b", "A|B b|C", "C", "", "", ""]
    assert read(file).images["labels"].tolist() == ["0|2", "", "1", "0|1|2", "2", "", "", ""]
    assert read(file).vocabulary == {"0", "1", "2"}
    with pytest.raises(UserError, match="2 names are given, but the file has 3 columns"):
        read(file, labels=NAMES)
    with pytest.raises(UserError, match="the file has 1 and 3 columns"):
        read(write(tmp_path, val_labels=np.array(val)))
    numbers = read(write(tmp_path, val_labels=np.array([1, 4, 0])))
    assert (set(numbers.images["labels"]), numbers.vocabulary) == ({*"0124"}, {*"01234"})


def test_missing_and_empty_splits_are_skipped_and_colour_is_converted_to_grey(tmp_path):
    no_labels = {f"{split}_labels": np.empty((0, 1), np.uint8) for split in ("train", "val", "test")}
    no_images = {f"{split}_images": np.empty((0, 28, 28), np.uint8) for split in ("train", "val", "test")}
    assert read(write(tmp_path, **no_labels, **no_images)).images.empty
    colour = draw("val", 30, 28, 3)
    file = write(tmp_path, train_images=None, train_labels=None, test_images=None, val_images=colour)
    assert read(file).images["image"].tolist() == [f"validation/0000{number}" for number in range(3)]
    assert np.array_equal(unpack(file), [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in colour])


@pytest.mark.parametrize(
    ("member", "shape", "message"),
    [
        ("val_images", (3, 20_000, 20_000), r"expected at most 64 MiB an image\. Found \(3, 20000, 20000\)"),
        ("val_labels", (2**58, 1), "Unable to allocate|array is too big"),
    ],
)
def test_a_shape_that_is_too_large_is_refused_before_it_is_read(tmp_path, member, shape, message):
    file = write(tmp_path, **{member: None})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{member}.npy", header.getvalue())
    with pytest.raises(UserError, match=message):
        read(file)


def test_an_archive_that_expands_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "_MAX_EXPANDED_BYTES", 2000)
    file = write(tmp_path, val_images=np.zeros((3, 500, 500), np.uint8))
    with pytest.raises(UserError, match="it expands to more than 50 times its compressed size"):
        reader(file, unpacked=tmp_path / "unpacked")


NO_IMAGES = {"train_images": None, "val_images": None, "test_images": None}
SHAPE = r"images: expected (uint8 \[n, height, width\]|the same size in every split)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": np.array([[0], [1]])}, r"val_labels: expected .* 3 images\. Found int64 \(2, 1\)"),
        ({"val_labels": np.zeros((3, 1))}, "val_labels: expected .* float64"),
        ({"val_labels": np.zeros((3, 0), int)}, "val_labels has 0 columns"),
        ({"val_labels": np.array([[0, 1], [2, 0], [0, 0]])}, "val_labels has 2 columns"),
        ({"val_labels": np.array([[None], [1], [{}]])}, "Object arrays cannot be loaded"),
        ({"train_labels": None}, "train_labels.npy"),
        ({"val_labels": np.full(3, 2**40)}, "val_labels: expected numbers of labels up to 9999"),
        (NO_IMAGES, "it contains train_labels.npy, val_labels.npy"),
        ({"val_images": np.zeros((3, 28, 28), np.int8)}, SHAPE),
        ({"val_images": np.zeros((3, 28, 28, 4), np.uint8)}, SHAPE),
        ({"val_images": np.zeros((3, 32, 32), np.uint8)}, SHAPE),
        ({"val_images": np.asfortranarray(draw("val"))}, SHAPE),
    ],
)
def test_invalid_arrays_leave_nothing(tmp_path, changes, message):
    file = write(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"images\.npz cannot be read: .*{message}.*Expected one \.npz file"):
        (read(file), unpack(file))
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_a_damaged_file_leaves_nothing(tmp_path):
    file = write(tmp_path)
    content = file.read_bytes()
    truncated = [content[: int(len(content) * kept)] for kept in (0, 0.5, 0.99)]
    changed_pixels = content[:600] + bytes(100) + content[700:]  # which are not read for a listing
    for use, damaged in (*product((read, unpack), truncated), (unpack, changed_pixels)):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"images\.npz cannot be read: .*Expected one \.npz file"):
            use(file)
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_real_images(shared_data, tmp_path):
    folder = shared_data / "medmnist"
    listing = read(folder, labels=("normal", "pneumonia"))
    with np.load(folder / "pneumoniamnist_dev.npz") as arrays:
        pixels, numbers = (
            np.concatenate([arrays[f"{split}_{kind}"] for split in ("train", "val", "test")])
            for kind in ("images", "labels")
        )
    assert np.array_equal(unpacked_images(reader(folder, unpacked=tmp_path)), pixels)
    by_row = listing.images.assign(row=listing.images["path"].astype(int)).sort_values("row")
    assert by_row["labels"].eq("pneumonia").tolist() == (numbers[:, 0] == 1).tolist()
