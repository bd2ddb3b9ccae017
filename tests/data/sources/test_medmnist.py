import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import medmnist
from cxr_pipeline.data.sources.medmnist import read, reader
from cxr_pipeline.data.sources.unpacking import open_unpacked

NAMES = ("well", "ill")


def draw(n: int, *, seed: int = 0, size: tuple[int, ...] = (28, 28)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *size), dtype=np.uint8)


def data(**changes: Any) -> dict[str, Any]:
    arrays = {
        "train_images": draw(3),
        "train_labels": np.array([[0], [1], [0]], np.uint8),
        "val_images": draw(2, seed=1),
        "val_labels": np.array([[1], [0]], np.uint8),
        "test_images": draw(1, seed=2),
        "test_labels": np.array([[1]], np.uint8),
    }
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def write(folder: Path, **changes: Any) -> Path:
    np.savez_compressed(folder / "images.npz", **data(**changes))
    return folder / "images.npz"


def unpacked(file: Path, folder: Path) -> np.ndarray:
    images, _ = open_unpacked(reader(file, unpacked=folder / "unpacked").folder)
    return images.read([str(row) for row in range(len(images))])


def test_splits_labels_and_images_belong_together(tmp_path: Path) -> None:
    file = write(tmp_path)
    listing = read(file, labels=NAMES)
    assert listing.images[["image", "labels", "given_split"]].to_numpy().tolist() == [
        ["test/00000", "ill", "test"],
        ["train/00000", "well", "train"],
        ["train/00001", "ill", "train"],
        ["train/00002", "well", "train"],
        ["validation/00000", "ill", "validation"],
        ["validation/00001", "well", "validation"],
    ]
    assert listing.images["patient_id"].isna().all()
    assert listing.vocabulary == set(NAMES)
    expected = [draw(1, seed=2)[0], *draw(3), *draw(2, seed=1)]
    images = reader(file, unpacked=tmp_path / "unpacked")
    for path, pixels in zip(listing.images["path"], expected, strict=True):
        assert np.array_equal(decode(images.read(path), max_megapixels=1), pixels)


def test_labels_without_names_are_numbers(tmp_path: Path) -> None:
    listing = read(write(tmp_path, val_labels=np.array([1, 3])))
    assert set(listing.images["labels"]) == {"0", "1", "3"}
    assert listing.vocabulary == {"0", "1", "2", "3"}


@pytest.mark.parametrize("number", [2, -1, 300])
def test_a_label_without_a_name(tmp_path: Path, number: int) -> None:
    file = write(tmp_path, train_labels=np.array([[0], [number], [1]], np.int64))
    listing = read(file, labels=NAMES)
    assert listing.refused.to_numpy().tolist() == [
        ["train/00001", "unknown_label", f"label '{number}'; expected a whole number from 0 to 1"]
    ]
    assert listing.n_rows == 6
    images = listing.images.set_index("image")
    assert images.loc[["train/00002", "validation/00000"], "path"].tolist() == ["2", "3"]


def test_several_labels_at_once(tmp_path: Path) -> None:
    rows = {"train_labels": [[1, 0, 1], [0, 0, 0], [0, 1, 0]], "val_labels": [[1, 1, 1]] * 2, "test_labels": [[0] * 3]}
    file = write(tmp_path, **{name: np.array(values, np.uint8) for name, values in rows.items()})
    images = read(file, labels=("A", "B b", "C")).images.set_index("image")["labels"]
    assert images["train/00000"] == "A|C"
    assert images["train/00001"] == images["test/00000"] == ""
    assert images["train/00002"] == "B b"
    assert read(file).images["labels"].tolist() == ["", "0|2", "", "1", "0|1|2", "0|1|2"]
    assert read(file).vocabulary == {"0", "1", "2"}


def test_missing_splits_are_skipped(tmp_path: Path) -> None:
    file = write(tmp_path, train_images=None, train_labels=None, test_images=None)
    assert read(file, labels=NAMES).images["image"].tolist() == ["validation/00000", "validation/00001"]
    assert np.array_equal(unpacked(file, tmp_path), draw(2, seed=1))


def test_colour_becomes_grey_as_in_images(tmp_path: Path) -> None:
    sizes = {"train_images": 3, "val_images": 2, "test_images": 1}
    colour = {name: draw(n, seed=n, size=(30, 28, 3)) for name, n in sizes.items()}
    images = unpacked(write(tmp_path, **colour), tmp_path)
    everything = np.concatenate(list(colour.values()))
    assert images.shape == (6, 30, 28)
    assert np.array_equal(images, [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in everything])
    exact = everything @ [0.299, 0.587, 0.114]
    assert np.abs(images - exact).max() <= 1


def test_splits_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medmnist, "BLOCK_PIXELS", 28 * 28 * 2)
    images = unpacked(write(tmp_path), tmp_path)
    assert np.array_equal(images, [*draw(3), *draw(2, seed=1), *draw(1, seed=2)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.array([[0], [1]])}, r"train_labels: expected .* 3 images\. Found int64 \(2, 1\)"),
        ({"train_labels": np.array([[0.0], [1.0], [0.0]])}, r"train_labels: expected .* float64 \(3, 1\)"),
        ({"train_labels": np.zeros((3, 1, 1), int)}, r"train_labels: expected .*\(3, 1, 1\)"),
        ({"train_labels": np.zeros((3, 0), int)}, "train_labels has 0 columns; expected one"),
        ({"train_labels": np.array([["a"], ["b"], ["c"]])}, r"train_labels: expected .*<U1"),
        (
            {"train_labels": np.array([[0, 1], [2, 0], [0, 0]])},
            "train_labels has 2 columns; expected one, or several of 0 and 1",
        ),
        ({"train_labels": np.array([[None], [1], [{}]])}, "Object arrays cannot be loaded"),
        ({"train_labels": None}, "train_labels.npy"),
        (
            {"train_images": None, "val_images": None, "test_images": None},
            "it contains train_labels.npy, val_labels.npy",
        ),
    ],
)
def test_invalid_labels(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"images\.npz cannot be read: .*{message}.*Expected one \.npz file"):
        read(write(tmp_path, **changes))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((3, 28, 28), np.float32),
        np.zeros((3, 28, 28), np.int8),
        np.zeros((3, 28, 28, 28), np.uint8),
        np.zeros((3, 28, 28, 4), np.uint8),
        np.zeros((3, 784), np.uint8),
        np.zeros((3, 0, 28), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
        np.asfortranarray(draw(3)),
    ],
)
def test_invalid_images_leave_nothing(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(
        UserError, match=r"images: expected (uint8 \[n, height, width\]|the same size in every split).* Found"
    ):
        reader(write(tmp_path, train_images=pixels), unpacked=tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_a_wrong_number_of_names(tmp_path: Path) -> None:
    tables = {f"{split}_labels": np.zeros((n, 3), np.uint8) for split, n in (("train", 3), ("val", 2), ("test", 1))}
    with pytest.raises(UserError, match="2 labels are named, but the file has 3 columns"):
        read(write(tmp_path, **tables), labels=NAMES)
    with pytest.raises(UserError, match="0 labels are named, but the file has 1 and 3 columns"):
        read(write(tmp_path, test_labels=tables["test_labels"]))


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path: Path, kept: float) -> None:
    file = write(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    for use in (read, lambda place: reader(place, unpacked=tmp_path / "unpacked")):
        with pytest.raises(UserError, match=r"images\.npz cannot be read: .*Expected one \.npz file"):
            use(file)


def test_damaged_pixels_leave_nothing(tmp_path: Path) -> None:
    file = write(tmp_path)
    content = bytearray(file.read_bytes())
    content[600:700] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"images\.npz cannot be read"):
        reader(file, unpacked=tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_an_array_that_is_shorter_than_its_header_says(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, draw(3))
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("train_images.npy", array.getvalue()[:-28])
        archive.writestr("train_labels.npy", array.getvalue()[:-28])
    for use in (read, lambda place: reader(place, unpacked=tmp_path / "unpacked")):
        with pytest.raises(UserError, match=r"images\.npz cannot be read: .*2324"):
            use(tmp_path)
    assert not list((tmp_path / "unpacked").rglob("description.json"))


def test_real_images(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "medmnist"
    listing = read(folder, labels=("normal", "pneumonia"))
    assert listing.images["given_split"].value_counts().to_dict() == {"train": 4682, "validation": 262, "test": 262}
    assert listing.images["labels"].eq("pneumonia").mean() == pytest.approx(0.742, abs=0.01)
    with np.load(folder / "pneumoniamnist_dev.npz") as arrays:
        expected = np.concatenate([arrays[f"{split}_images"] for split in ("train", "val", "test")])
        numbers = np.concatenate([arrays[f"{split}_labels"] for split in ("train", "val", "test")])[:, 0]
    assert np.array_equal(unpacked(folder, tmp_path), expected)
    by_path = listing.images.assign(row=listing.images["path"].astype(int)).sort_values("row")
    assert by_path["labels"].eq("pneumonia").tolist() == (numbers == 1).tolist()
