"""Tests of hashing, on real files."""

import hashlib
import os
from pathlib import Path

import pytest

from cxr_pipeline.errors import FilmRefused
from cxr_pipeline.sources.fingerprints import fingerprint, fingerprints


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a b\n胸.png").write_bytes(content)
    assert fingerprint(tmp_path, "a b\n胸.png") == hashlib.sha256(content).hexdigest()


def test_many_films_keep_their_order(tmp_path: Path) -> None:
    paths = [f"{number}.png" for number in range(1200)]
    for path in paths:
        (tmp_path / path).write_text(path)
    (tmp_path / paths[700]).write_bytes(b"")
    table = fingerprints(tmp_path, paths)
    expected = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    assert table["reason"].dropna().to_dict() == {700: "empty"}
    assert table["sha256"].drop(700).tolist() == expected[:700] + expected[701:]


@pytest.mark.parametrize("path", ["../secret.png", "link.png", "folder/secret.png", "nested/../../secret.png"])
def test_nothing_outside_the_source_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_text("secret")
    source = tmp_path / "source"
    (source / "nested").mkdir(parents=True)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "folder").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(FilmRefused) as refusal:
        fingerprint(source, path)
    assert refusal.value.reason == "outside_source"


def test_a_link_inside_the_source_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("film")
    (tmp_path / "b.png").symlink_to("a.png")
    assert fingerprint(tmp_path, "b.png") == fingerprint(tmp_path, "a.png")


def test_the_source_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("film")
    (tmp_path / "source").symlink_to(tmp_path / "real", target_is_directory=True)
    assert fingerprints(tmp_path / "source", ["a.png"])["sha256"].notna().all()


def test_what_cannot_be_read_is_refused_and_hangs_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    table = fingerprints(tmp_path, ["loop.png", "nowhere.png", "folder.png", "pipe.png", "absent.png", "x" * 300])
    assert table["reason"].tolist() == ["unreadable"] * 6
    assert table["sha256"].isna().all()
    assert not table["detail"].str.contains(str(tmp_path), regex=False).any()
