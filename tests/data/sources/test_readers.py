import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from samples import refusal, write_files

from cxr_pipeline.data.images import decoding
from cxr_pipeline.data.sources.readers import FileReader, RowReader
from cxr_pipeline.data.sources.unpacking import unpack

OUTSIDE = ("../secret", "{outside}/secret", "link", "folder/secret", "nested/../../secret", "../source2/a.png")


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_that_lead_out_of_the_source(tmp_path, path):
    source = write_files(tmp_path, "secret", "source2/a.png", "source/nested/a.png") / "source"
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "folder").symlink_to(tmp_path, target_is_directory=True)
    path = path.format(outside=tmp_path)
    assert refusal(FileReader(source), path).reason == "outside_source"
    assert FileReader(source).version(path) is None


def test_links_inside_the_source_and_to_the_source(tmp_path, monkeypatch):
    write_files(tmp_path, "real/a.png")
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    (tmp_path / "source").symlink_to(tmp_path / "real", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", "b.png"):
        assert FileReader(Path("source")).read(path) == b"real/a.png"
        assert FileReader(Path("source")).version(path)[0] == len("real/a.png")


def test_unreadable_files(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path in ("loop.png", "nowhere.png", "folder.png", "pipe.png", "absent.png", "x" * 300, "nul\0.png"):
        refused = refusal(FileReader(tmp_path), path)
        assert refused.reason == "unreadable"
        assert refused.detail
        assert str(tmp_path) not in refused.detail
        if path != "folder.png" and path != "pipe.png":
            assert FileReader(tmp_path).version(path) is None


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(bytes(11))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    assert refusal(FileReader(tmp_path), "a.png").reason == "too_large"


def unpacked(folder, rows, faults=None):
    (folder / "container").write_bytes(rows.tobytes())
    blocks = [(rows, faults or {})]
    return RowReader(unpack(folder / "container", folder / "unpacked", lambda _: iter(blocks), how=""))


def test_a_row_is_always_the_same_bytes(tmp_path):
    """The hash of these bytes identifies an image, in splits too: they must not depend on the version of a library."""
    rows = np.arange(17 * 18, dtype=np.uint16).astype(np.uint8).reshape(1, 17, 18)
    content = unpacked(tmp_path, rows).read("0")
    assert hashlib.sha256(content).hexdigest() == "327c86f1a42e8004400cf17eb410008e0d1549d7aca8778891c798270e815278"


def test_a_row_that_is_missing_or_holds_no_image(tmp_path):
    reader = unpacked(tmp_path, np.zeros((2, 16, 16), np.uint8), {1: "pixel4 is 300"})
    for path in ("2", "-1", "", "1.0", "one", "²", "../rows.npy"):
        assert refusal(reader, path).reason == "unreadable"
    assert str(refusal(reader, "1")) == "unreadable: pixel4 is 300"


@pytest.mark.parametrize("description", [None, "{", '{"shape": [16, 16]}'])
def test_missing_or_damaged_unpacked_images(tmp_path, description):
    reader = unpacked(tmp_path, np.zeros((4, 16, 16), np.uint8))
    file = reader.folder / "description.json"
    file.write_text(description) if description else file.unlink()
    assert refusal(reader, "0").reason == "unreadable"
    assert reader.version("0") is None
