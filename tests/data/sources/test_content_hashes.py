import hashlib
import os
import time
from pathlib import Path

import pytest

from cxr_pipeline.data.sources.content_hashes import content_hashes
from cxr_pipeline.data.sources.readers import FileReader

DAY_NS = 24 * 3600 * 10**9


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(file: Path, content: bytes, *, age_ns: int = DAY_NS) -> None:
    file.write_bytes(content)
    changed = time.time_ns() - age_ns
    os.utime(file, ns=(changed, changed))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that are read during a test."""
    paths: list[str] = []
    read = FileReader.read
    monkeypatch.setattr(FileReader, "read", lambda self, path: paths.append(path) or read(self, path))
    return paths


def test_many_images_keep_their_order(tmp_path: Path) -> None:
    paths = [f"{number} 胸\n.png" for number in range(1200)]
    for path in paths:
        (tmp_path / path).write_text(path)
    (tmp_path / paths[700]).write_bytes(b"")
    table = content_hashes(FileReader(tmp_path), [*paths, "../a.png", "absent.png"])
    assert table["reason"].dropna().to_dict() == {700: "empty", 1200: "unreadable", 1201: "unreadable"}
    assert table["detail"].notna().equals(table["reason"].notna())
    assert table["sha256"][:1200].drop(700).tolist() == [sha256(path.encode()) for path in paths if path != paths[700]]
    assert table["sha256"][1200:].isna().all()


def test_no_images() -> None:
    assert list(content_hashes(FileReader(Path()), []).columns) == ["sha256", "reason", "detail"]


class TestCache:
    PATHS = ("a.png", "b.png", "empty.png")

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        source = tmp_path / "source"
        source.mkdir()
        for path in self.PATHS:
            write(source / path, b"" if path == "empty.png" else path.encode())
        return source

    def hashes(self, source: Path, **options: object) -> list[str]:
        table = content_hashes(FileReader(source, **options), self.PATHS, cache=source.parent / "cache")
        return table["sha256"].dropna().tolist()

    def test_unchanged_files_are_not_read_again(self, source: Path, reads: list[str]) -> None:
        first = self.hashes(source)
        assert first == [sha256(b"a.png"), sha256(b"b.png")]
        reads.clear()
        assert self.hashes(source) == first
        assert reads == ["empty.png"]

    def test_a_changed_file_of_equal_size_is_read_again(self, source: Path, reads: list[str]) -> None:
        self.hashes(source)
        reads.clear()
        write(source / "a.png", b"c.png", age_ns=DAY_NS // 2)
        assert self.hashes(source) == [sha256(b"c.png"), sha256(b"b.png")]
        assert reads == ["a.png", "empty.png"]

    def test_a_changed_file_of_equal_time_is_read_again(self, source: Path) -> None:
        self.hashes(source)
        status = (source / "a.png").stat()
        (source / "a.png").write_bytes(b"longer than before")
        os.utime(source / "a.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert self.hashes(source)[0] == sha256(b"longer than before")

    @pytest.mark.parametrize("age_ns", [0, 10**9, -DAY_NS])
    def test_a_hash_within_a_tick_of_the_clock_is_not_trusted(self, source: Path, age_ns: int) -> None:
        write(source / "a.png", b"a.png", age_ns=age_ns)
        status = (source / "a.png").stat()
        self.hashes(source)
        (source / "a.png").write_bytes(b"c.png")
        os.utime(source / "a.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert self.hashes(source)[0] == sha256(b"c.png")

    @pytest.mark.parametrize(
        "damage", [lambda content: content[:-9], lambda content: content.replace(b"a.png", b"b.png")]
    )
    def test_a_damaged_cache_is_rebuilt(self, source: Path, reads: list[str], damage) -> None:
        first = self.hashes(source)
        [file] = (source.parent / "cache").iterdir()
        content = file.read_bytes()
        file.write_bytes(damage(content))
        assert self.hashes(source) == first
        assert file.read_bytes() == content

    def test_a_file_moved_out_of_the_source_is_refused(self, source: Path) -> None:
        self.hashes(source)
        (source / "a.png").rename(source.parent / "a.png")
        (source / "a.png").symlink_to(source.parent / "a.png")
        assert self.hashes(source) == [sha256(b"b.png")]

    def test_a_reader_with_other_options_has_its_own_cache(self, source: Path) -> None:
        self.hashes(source)
        assert self.hashes(source, dicom_only=True) == []

    def test_images_of_another_task_stay_stored(self, source: Path, reads: list[str]) -> None:
        self.hashes(source)
        write(source / "d.png", b"d.png")
        content_hashes(FileReader(source), ["d.png"], cache=source.parent / "cache")
        reads.clear()
        self.hashes(source)
        assert reads == ["empty.png"]
