"""Tests of hashing, on real files."""

import hashlib
import os
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.sources.content_hashes import content_hashes, fingerprint
from cxr_pipeline.data.sources.readers import FileReader


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a b\n胸.png").write_bytes(content)
    assert fingerprint(FileReader(tmp_path), "a b\n胸.png") == hashlib.sha256(content).hexdigest()


def test_many_images_keep_their_order(tmp_path: Path) -> None:
    paths = [f"{number}.png" for number in range(1200)]
    for path in paths:
        (tmp_path / path).write_text(path)
    (tmp_path / paths[700]).write_bytes(b"")
    table = content_hashes(FileReader(tmp_path), paths)
    expected = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    assert table["reason"].dropna().to_dict() == {700: "empty"}
    assert table["sha256"].drop(700).tolist() == expected[:700] + expected[701:]


def test_what_the_reader_refuses_is_told_and_the_others_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("image")
    table = content_hashes(FileReader(tmp_path), ["../a.png", "absent.png", "a.png"])
    assert table["reason"].tolist()[:2] == ["unreadable", "unreadable"]
    assert table["detail"].notna().tolist() == [True, True, False]
    assert table["sha256"].notna().tolist() == [False, False, True]


def test_no_images_have_no_hashes(tmp_path: Path) -> None:
    assert list(content_hashes(FileReader(tmp_path), []).columns) == ["sha256", "reason", "detail"]


def test_a_image_without_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageRefused, match="empty: zero bytes"):
        fingerprint(FileReader(tmp_path), "a.png")
