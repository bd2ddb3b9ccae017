"""Tests of reading images, on real files and unpacked rows."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import decoding
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources.readers import FileReader, RowReader


def reason(reader: FileReader | RowReader, path: str) -> str:
    with pytest.raises(ImageRefused) as refusal:
        reader.read(path)
    return refusal.value.reason


@pytest.mark.parametrize("path", ["../secret.png", "link.png", "folder/secret.png", "nested/../../secret.png"])
def test_nothing_outside_the_source_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_text("secret")
    source = tmp_path / "source"
    (source / "nested").mkdir(parents=True)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "folder").symlink_to(tmp_path, target_is_directory=True)
    assert reason(FileReader(source), path) == "outside_source"


def test_an_absolute_path_is_outside(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "secret.png").write_text("secret")
    assert reason(FileReader(tmp_path / "source"), str(tmp_path / "secret.png")) == "outside_source"


def test_a_folder_whose_name_only_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source2").mkdir()
    (tmp_path / "source2" / "a.png").write_text("secret")
    assert reason(FileReader(tmp_path / "source"), "../source2/a.png") == "outside_source"


def test_a_link_inside_the_source_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("image")
    (tmp_path / "b.png").symlink_to("a.png")
    assert FileReader(tmp_path).read("b.png") == b"image"


def test_the_source_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("image")
    (tmp_path / "source").symlink_to(tmp_path / "real", target_is_directory=True)
    assert FileReader(tmp_path / "source").read("a.png") == b"image"


def test_the_source_may_be_named_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("image")
    monkeypatch.chdir(tmp_path)
    assert FileReader(Path("images")).read("a.png") == b"image"


def test_what_cannot_be_read_is_refused_and_hangs_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path in ["loop.png", "nowhere.png", "folder.png", "pipe.png", "absent.png", "x" * 300, "nul\0.png"]:
        with pytest.raises(ImageRefused) as refusal:
            FileReader(tmp_path).read(path)
        assert refusal.value.reason == "unreadable"
        assert refusal.value.detail
        assert str(tmp_path) not in refusal.value.detail


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bytes(11))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    assert reason(FileReader(tmp_path), "a.png") == "too_large"


def test_the_length_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("image")
    assert FileReader(tmp_path).n_bytes("a.png") == 5
    assert FileReader(tmp_path).n_bytes("absent.png") == FileReader(tmp_path).n_bytes("nul\0") == 0


def test_a_dicom_that_is_no_chest_image_is_refused(shared_data: Path) -> None:
    reader = FileReader(shared_data / "dicom")
    assert reason(reader, "not_chest_tibia_j2k.dcm") == "not_chest"
    assert reader.read("udacity_test1.dcm") == (shared_data / "dicom" / "udacity_test1.dcm").read_bytes()


images = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(16, 40), st.integers(16, 40)))


@given(rows=images)
def test_a_row_is_decoded_to_its_pixels(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows[:, 0, :2] = 0, 255
    file = tmp_path_factory.mktemp("unpacked") / "rows.npy"
    np.save(file, rows)
    reader = RowReader(file)
    for number, row in enumerate(rows):
        content = reader.read(str(number))
        assert np.array_equal(decode(content, max_megapixels=1), row)
        assert reader.read(str(number)) == content
        assert reader.n_bytes(str(number)) == row.size


def test_a_row_is_always_the_same_bytes(tmp_path: Path) -> None:
    """Images are known by these bytes, in splits too: they must not change with a version of a library."""
    np.save(tmp_path / "rows.npy", np.arange(17 * 18, dtype=np.uint16).astype(np.uint8).reshape(1, 17, 18))
    content = RowReader(tmp_path / "rows.npy").read("0")
    assert hashlib.sha256(content).hexdigest() == "327c86f1a42e8004400cf17eb410008e0d1549d7aca8778891c798270e815278"


@pytest.mark.parametrize("path", ["2", "-1", "", "1.0", "one", "²", "../rows.npy"])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, path: str) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 16, 16), np.uint8))
    assert reason(RowReader(tmp_path / "rows.npy"), path) == "unreadable"


def test_a_row_without_a_image_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.full((2, 16, 16), 7, np.uint8))
    (tmp_path / "rows.json").write_text(json.dumps({"1": "pixel4 is 300"}))
    with pytest.raises(ImageRefused, match="unreadable: pixel4 is 300"):
        RowReader(tmp_path / "rows.npy").read("1")
    assert RowReader(tmp_path / "rows.npy").read("0")


def test_unpacked_images_that_are_gone_or_damaged_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((4, 16), np.uint8))
    np.save(tmp_path / "deep.npy", np.zeros((4, 16, 16), np.uint16))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    for name in ["flat", "deep", "cut", "absent"]:
        assert reason(RowReader(tmp_path / f"{name}.npy"), "0") == "unreadable"
        assert RowReader(tmp_path / f"{name}.npy").n_bytes("0") == 0


def test_rows_are_mapped_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 16, 16), np.uint8))
    load, opened = np.load, []
    monkeypatch.setattr(np, "load", lambda file, **options: opened.append(options) or load(file, **options))
    for path in ("0", "1"):
        pickle.loads(pickle.dumps(RowReader(tmp_path / "rows.npy"))).read(path)
    assert opened == [{"mmap_mode": "r", "allow_pickle": False}]


def test_a_reader_pickles_small(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((200, 16, 16), np.uint8))
    reader = RowReader(tmp_path / "rows.npy")
    reader.read("0")
    for one in (reader, FileReader(tmp_path)):
        assert pickle.loads(pickle.dumps(one)) == one
        assert len(pickle.dumps(one)) < 1000
