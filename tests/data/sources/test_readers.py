import hashlib
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from samples import refusal, unpacked_images, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images import decoding
from cxr_pipeline.data.sources.readers import FileReader, content_hashes, find_container, unpack


def test_paths_that_lead_out_of_the_source(tmp_path):
    source = write_files(tmp_path, "secret", "source2/a.png", "source/nested/a.png") / "source"
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "folder").symlink_to(tmp_path, target_is_directory=True)
    for path in ("../secret", f"{tmp_path}/secret", "link", "folder/secret", "nested/../../secret", "../source2/a.png"):
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
        assert FileReader(tmp_path).version(path) is None or path in ("folder.png", "pipe.png")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(bytes(11))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    assert refusal(FileReader(tmp_path), "a.png").reason == "too_large"


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


DAY_NS = 24 * 3600 * 10**9
PATHS = ("a.png", "b.png", "empty.png")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def write(file, content, *, changed_ns=None):
    """Write a file that last changed then, or a day ago."""
    file.write_bytes(content)
    changed_ns = time.time_ns() - DAY_NS if changed_ns is None else changed_ns
    os.utime(file, ns=(changed_ns, changed_ns))


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in PATHS:
        write(source / path, b"" if path == "empty.png" else path.encode())
    return source


@pytest.fixture
def reads(monkeypatch):
    """Paths that are read during a test."""
    paths = []
    read = FileReader.read
    monkeypatch.setattr(FileReader, "read", lambda self, path: paths.append(path) or read(self, path))
    return paths


def cached_hashes(source, *paths, **options):
    table = content_hashes(FileReader(source, **options), paths or PATHS, cache=source.parent / "cache")
    return table["sha256"].dropna().tolist()


def test_many_images_keep_their_order(tmp_path):
    paths = [f"{number} 胸\n.png" for number in range(1200)]
    for path in paths:
        (tmp_path / path).write_text(path)
    (tmp_path / paths[700]).write_bytes(b"")
    table = content_hashes(FileReader(tmp_path), [*paths, "../a.png", "absent.png"])
    assert table["reason"].dropna().to_dict() == {700: "empty", 1200: "unreadable", 1201: "unreadable"}
    assert table["detail"].notna().equals(table["reason"].notna())
    assert table["sha256"][:1200].drop(700).tolist() == [sha256(path.encode()) for path in paths if path != paths[700]]
    assert table["sha256"][1200:].isna().all()
    assert list(content_hashes(FileReader(tmp_path), [])) == ["sha256", "reason", "detail"]


def test_only_new_and_changed_files_are_read_again(source, reads):
    first = cached_hashes(source)
    assert first == [sha256(b"a.png"), sha256(b"b.png")]
    write(source / "d.png", b"d.png")
    cached_hashes(source, "d.png")
    reads.clear()
    assert cached_hashes(source) == first  # images of another task do not replace those of this one
    assert reads == ["empty.png"]
    write(source / "a.png", b"c.png", changed_ns=time.time_ns() - DAY_NS // 2)
    assert cached_hashes(source) == [sha256(b"c.png"), first[1]]
    write(source / "a.png", b"longer", changed_ns=(source / "a.png").stat().st_mtime_ns)
    assert cached_hashes(source) == [sha256(b"longer"), first[1]]
    assert reads == ["empty.png", *["a.png", "empty.png"] * 2]
    reads.clear()  # a reader with other options has its own cache, because it may refuse other images
    assert cached_hashes(source, modalities=("CR",)) == [sha256(b"longer"), first[1]]
    assert reads == list(PATHS)


@pytest.mark.parametrize("age_ns", [0, 10**9, -DAY_NS])
def test_a_hash_within_a_tick_of_the_clock_is_not_trusted(source, age_ns):
    changed_ns = time.time_ns() - age_ns
    write(source / "a.png", b"a.png", changed_ns=changed_ns)
    cached_hashes(source)
    write(source / "a.png", b"c.png", changed_ns=changed_ns)
    assert cached_hashes(source)[0] == sha256(b"c.png")


def test_a_file_moved_out_of_the_source_is_refused(source):
    cached_hashes(source)
    (source / "a.png").rename(source.parent / "a.png")
    (source / "a.png").symlink_to(source.parent / "a.png")
    assert cached_hashes(source) == [sha256(b"b.png")]
