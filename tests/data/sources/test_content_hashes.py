import hashlib
import os
import time

import pytest

from cxr_pipeline.data.sources.content_hashes import content_hashes
from cxr_pipeline.data.sources.readers import FileReader

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
