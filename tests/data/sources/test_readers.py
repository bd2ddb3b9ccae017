import hashlib
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
from cxr_pipeline.data.sources.unpacking import Block, unpack


def reason(reader: FileReader | RowReader, path: str) -> str:
    with pytest.raises(ImageRefused) as refusal:
        reader.read(path)
    return refusal.value.reason


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "{folder}/secret.png",
        "link.png",
        "folder/secret.png",
        "nested/../../secret.png",
        "../source2/a.png",
    ],
)
def test_paths_that_lead_out_of_the_source(tmp_path: Path, path: str) -> None:
    source = tmp_path / "source"
    for folder in (source / "nested", tmp_path / "source2"):
        folder.mkdir(parents=True)
    for file in ("secret.png", "source2/a.png"):
        (tmp_path / file).write_text("secret")
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "folder").symlink_to(tmp_path, target_is_directory=True)
    assert reason(FileReader(source), path.format(folder=tmp_path)) == "outside_source"
    assert FileReader(source).version(path.format(folder=tmp_path)) is None


def test_links_inside_the_source_and_to_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("image")
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    (tmp_path / "source").symlink_to(tmp_path / "real", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", "b.png"):
        assert FileReader(Path("source")).read(path) == b"image"


def test_unreadable_files(tmp_path: Path) -> None:
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


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bytes(11))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    assert reason(FileReader(tmp_path), "a.png") == "too_large"


def test_length_and_version_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("image")
    os.utime(tmp_path / "a.png", ns=(7, 7))
    assert FileReader(tmp_path).n_bytes("a.png") == 5
    assert FileReader(tmp_path).version("a.png") == (5, 7)
    assert FileReader(tmp_path).n_bytes("absent.png") == FileReader(tmp_path).n_bytes("nul\0") == 0


def test_a_dicom_file_of_another_body_part(shared_data: Path) -> None:
    reader = FileReader(shared_data / "dicom")
    assert reason(reader, "not_chest_tibia_j2k.dcm") == "not_chest"
    assert reader.read("udacity_test1.dcm") == (shared_data / "dicom" / "udacity_test1.dcm").read_bytes()


images = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(16, 40), st.integers(16, 40)))


def unpacked(folder: Path, rows: np.ndarray, faults: dict[int, str] | None = None) -> RowReader:
    (folder / "container").write_bytes(rows.tobytes())
    return RowReader(
        unpack(folder / "container", folder / "unpacked", lambda _: iter([Block(rows, faults or {})]), how="")
    )


@given(rows=images)
def test_a_row_is_decoded_to_its_pixels(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows[:, 0, :2] = 0, 255
    reader = unpacked(tmp_path_factory.mktemp("unpacked"), rows)
    for number, row in enumerate(rows):
        content = reader.read(str(number))
        assert np.array_equal(decode(content, max_megapixels=1), row)
        assert reader.read(str(number)) == content
        assert reader.n_bytes(str(number)) == row.size


def test_a_row_is_always_the_same_bytes(tmp_path: Path) -> None:
    """The hash of these bytes identifies an image, in splits too: they must not depend on the version of a library."""
    rows = np.arange(17 * 18, dtype=np.uint16).astype(np.uint8).reshape(1, 17, 18)
    content = unpacked(tmp_path, rows).read("0")
    assert hashlib.sha256(content).hexdigest() == "327c86f1a42e8004400cf17eb410008e0d1549d7aca8778891c798270e815278"


@pytest.mark.parametrize("path", ["2", "-1", "", "1.0", "one", "²", "../rows.npy"])
def test_a_missing_row(tmp_path: Path, path: str) -> None:
    assert reason(unpacked(tmp_path, np.zeros((2, 16, 16), np.uint8)), path) == "unreadable"


def test_a_row_without_an_image(tmp_path: Path) -> None:
    reader = unpacked(tmp_path, np.full((2, 16, 16), 7, np.uint8), {1: "pixel4 is 300"})
    with pytest.raises(ImageRefused, match="unreadable: pixel4 is 300"):
        reader.read("1")
    assert reader.read("0")


@pytest.mark.parametrize("description", [None, "{", '{"shape": [16, 16]}'])
def test_missing_or_damaged_unpacked_images(tmp_path: Path, description: str | None) -> None:
    reader = unpacked(tmp_path, np.zeros((4, 16, 16), np.uint8))
    file = reader.folder / "description.json"
    file.write_text(description) if description else file.unlink()
    assert reason(reader, "0") == "unreadable"
    assert reader.n_bytes("0") == 0


def test_pickled_readers_do_not_contain_the_images(tmp_path: Path) -> None:
    reader = unpacked(tmp_path, np.zeros((200, 16, 16), np.uint8))
    reader.read("0")
    assert pickle.loads(pickle.dumps(reader)) == reader
    assert len(pickle.dumps(reader)) < 1000
