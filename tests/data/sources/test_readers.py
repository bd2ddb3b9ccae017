import os
from pathlib import Path

import pytest
from samples import refusal, write_files

from cxr_pipeline.data.images import decoding
from cxr_pipeline.data.sources.readers import FileReader

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
        assert FileReader(tmp_path).version(path) is None or path in ("folder.png", "pipe.png")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(bytes(11))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    assert refusal(FileReader(tmp_path), "a.png").reason == "too_large"
