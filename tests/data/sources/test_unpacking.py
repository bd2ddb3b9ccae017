import hashlib
import os
from functools import partial

import numpy as np
import pytest
from samples import refusal, unpacked_images, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.unpacking import find_container, unpack

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)


@pytest.fixture
def container(tmp_path):
    (tmp_path / "images.npz").write_bytes(b"images")
    return tmp_path / "images.npz"


def blocks(source, *, lengths=(3, 4)):
    assert source.read() == b"images", "the container is passed from its start"
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        yield IMAGES[start:end], {}


def never(source):
    raise AssertionError("unpacked again")
    yield


@pytest.mark.parametrize("lengths", [(7,), (3, 4), (0, 1, 0, 6, 0)])
def test_blocks_become_one_array(container, tmp_path, lengths):
    reader = unpack(container, tmp_path / "unpacked", partial(blocks, lengths=lengths), how="")
    assert np.array_equal(unpacked_images(reader), IMAGES)


def test_faults_are_numbered_in_the_container_and_arrays_need_not_be_contiguous(container, tmp_path):
    turned = IMAGES.transpose(0, 2, 1)
    parts = [(turned[:3], {2: "conflicting"}), (turned[3:], {0: "wet", 3: "conflicting"})]
    reader = unpack(container, tmp_path, lambda source: iter(parts), how="")
    assert np.array_equal(unpacked_images(reader), turned)
    assert [str(refusal(reader, row)) for row in ("2", "3")] == ["unreadable: conflicting", "unreadable: wet"]
    for path in ("7", "-1", "", "1.0", "one", "²", "../rows.npy"):
        assert refusal(reader, path).reason == "unreadable"


def test_a_row_is_always_the_same_bytes(container, tmp_path):
    """The hash of these bytes identifies an image, in splits too: they must not depend on the version of a library."""
    rows = np.arange(17 * 18, dtype=np.uint16).astype(np.uint8).reshape(1, 17, 18)
    content = unpack(container, tmp_path, lambda source: iter([(rows, {})]), how="").read("0")
    assert hashlib.sha256(content).hexdigest() == "327c86f1a42e8004400cf17eb410008e0d1549d7aca8778891c798270e815278"


@pytest.mark.parametrize("description", [None, "{", '{"shape": [5, 4]}'])
def test_missing_or_damaged_unpacked_images(container, tmp_path, description):
    reader = unpack(container, tmp_path / "unpacked", blocks, how="")
    file = reader.folder / "description.json"
    file.write_text(description) if description else file.unlink()
    assert refusal(reader, "0").reason == "unreadable"
    assert reader.version("0") is None


def test_a_container_is_unpacked_once_until_it_changes(container, tmp_path):
    first = unpack(container, tmp_path / "unpacked", blocks, how="a")
    container = container.rename(tmp_path / "renamed.npz")
    assert unpack(container, tmp_path / "unpacked", never, how="a") == first
    with pytest.raises(AssertionError):
        unpack(container, tmp_path / "unpacked", never, how="b")
    container.write_bytes(b"other")
    with pytest.raises(AssertionError):
        unpack(container, tmp_path / "unpacked", never, how="a")
    assert np.array_equal(unpacked_images(first), IMAGES)


def test_a_container_is_hashed_again_only_if_its_size_or_time_has_changed(container, tmp_path, monkeypatch):
    os.utime(container, (0, 0))
    first = unpack(container, tmp_path / "unpacked", blocks, how="")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert unpack(container, tmp_path / "unpacked", never, how="") == first
    os.utime(container, (1, 1))
    assert unpack(container, tmp_path / "unpacked", never, how="") == first


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_blocks_that_were_unpacked_before_a_failure_are_kept(container, tmp_path, error):
    def fail(source):
        yield IMAGES[:3], {0: "conflicting"}
        raise error("images.npz is damaged")

    with pytest.raises(error, match="is damaged"):
        unpack(container, tmp_path / "unpacked", fail, how="")
    (kept,) = (tmp_path / "unpacked").rglob("*.npy")
    written = kept.stat().st_mtime_ns
    assert np.array_equal(unpacked_images(unpack(container, tmp_path / "unpacked", blocks, how="")), IMAGES)
    assert kept.stat().st_mtime_ns == written


def test_a_container_is_the_file_or_the_only_one_in_the_folder(container, tmp_path):
    write_files(tmp_path, ".hidden.npz", "folder.npz/a", "notes.txt")
    assert find_container(tmp_path, (".npz",)) == find_container(container, (".npz",)) == container
    container.rename(tmp_path / "images.NPZ")
    assert find_container(tmp_path, (".npz",)).name == "images.NPZ"
    for place, suffixes in ((tmp_path, (".csv", ".csv.gz")), (tmp_path / "notes.txt", (".npz",))):
        with pytest.raises(UserError, match=rf"one file that ends in {' or '.join(suffixes)} at .*; found none"):
            find_container(place, suffixes)
    with pytest.raises(UserError, match=r"found images\.NPZ, more\.npz"):
        find_container(write_files(tmp_path, "more.npz"), (".npz",))
    with pytest.raises(UserError, match=r"gone\.npz cannot be read: it does not exist"):
        unpack(tmp_path / "gone.npz", tmp_path, blocks, how="")
