"""Tests of unpacking, on real files."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import unpacking
from cxr_pipeline.data.sources.unpacking import Block, find_container, unpack

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)


def container(folder: Path, content: bytes = b"images") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "images.npz").write_bytes(content)
    return folder / "images.npz"


def blocks(source: BufferedReader, *, lengths: tuple[int, ...] = (3, 4)) -> Iterator[Block]:
    assert source.read() == b"images", "the container is given from its start"
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        yield Block(IMAGES[start:end])


@given(cuts=st.lists(st.integers(0, 7), max_size=5).map(sorted))
def test_blocks_become_one_array(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("place")
    lengths = tuple(np.diff([0, *cuts, 7]).tolist())
    file = unpack(container(folder), folder / "unpacked", partial(blocks, lengths=lengths), how="")
    images = np.load(file, mmap_mode="r")
    assert images.dtype == np.uint8
    assert np.array_equal(images, IMAGES)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_no_images_make_an_empty_array(tmp_path: Path) -> None:
    assert np.load(unpack(container(tmp_path), tmp_path, lambda source: iter(()), how="")).size == 0


def test_images_that_are_no_block_of_memory_are_written_in_their_order(tmp_path: Path) -> None:
    turned = IMAGES.transpose(0, 2, 1)
    file = unpack(container(tmp_path), tmp_path, lambda source: iter([Block(turned)]), how="")
    assert np.array_equal(np.load(file), turned)


def test_rows_without_a_image_are_named_by_their_number_in_the_container(tmp_path: Path) -> None:
    parts = [Block(IMAGES[:3], {2: "torn"}), Block(IMAGES[3:], {0: "wet", 3: "torn"})]
    file = unpack(container(tmp_path), tmp_path, lambda source: iter(parts), how="")
    assert json.loads(file.with_suffix(".json").read_text()) == {"2": "torn", "3": "wet", "6": "torn"}


def test_a_container_is_unpacked_once_until_it_changes(tmp_path: Path) -> None:
    def never(source: BufferedReader) -> Iterator[Block]:
        raise AssertionError("unpacked again")
        yield

    first = unpack(container(tmp_path), tmp_path / "unpacked", blocks, how="a")
    renamed = container(tmp_path / "elsewhere")
    assert unpack(renamed, tmp_path / "unpacked", never, how="a") == first
    with pytest.raises(AssertionError):
        unpack(renamed, tmp_path / "unpacked", never, how="b")
    with pytest.raises(AssertionError):
        unpack(container(tmp_path, b"other"), tmp_path / "unpacked", never, how="a")
    assert np.array_equal(np.load(first), IMAGES)


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(source: BufferedReader) -> Iterator[Block]:
        yield Block(IMAGES, {0: "torn"})
        raise UserError("images.npz is damaged")

    with pytest.raises(UserError, match="is damaged"):
        unpack(container(tmp_path), tmp_path / "unpacked", fail, how="")
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"could not be written: No space left on device\. Expected .* room"):
        unpack(container(tmp_path), tmp_path / "unpacked", blocks, how="")
    assert list((tmp_path / "unpacked").iterdir()) == []


UNPACK = """
import resource, sys
from pathlib import Path
import numpy as np
from cxr_pipeline.data.sources.unpacking import Block, unpack
def blocks(source):
    for _ in range(40):
        yield Block(np.full((25, 20, 20), 7, np.uint8))
if sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
unpack(Path(sys.argv[1]), Path(sys.argv[1]).parent / "unpacked", blocks, how="")
"""


def start(image: Path, *limited: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", UNPACK, image, *limited], stderr=subprocess.PIPE, text=True)


def test_a_real_failure_to_write_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    error = start(container(tmp_path), "limited").communicate(timeout=60)[1]
    assert "UserError" in error
    assert "could not be written: File too large" in error
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_two_runs_at_once_do_no_harm(tmp_path: Path) -> None:
    processes = [start(container(tmp_path)) for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in processes] == ["", ""]
    (file,) = (tmp_path / "unpacked").iterdir()
    assert np.load(file).shape == (1000, 20, 20)


def test_old_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    file = unpack(container(tmp_path), tmp_path / "unpacked", blocks, how="")
    file.unlink()
    old, new, other = (file.with_name(name) for name in (f".{file.stem}-old.npy", f".{file.stem}-new.npy", ".x-1.npy"))
    for leftover in (old, new, other):
        leftover.touch()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    unpack(tmp_path / "images.npz", tmp_path / "unpacked", blocks, how="")
    assert [leftover.exists() for leftover in (old, new, other)] == [False, True, True]


def test_progress_goes_to_stderr_and_only_for_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(container(tmp_path), tmp_path / "unpacked", blocks, how="small")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(unpacking, "_WORTH_A_PROGRESS_BAR", 5)
    unpack(container(tmp_path), tmp_path / "unpacked", blocks, how="large")
    printed = capsys.readouterr()
    assert "Unpacking images.npz" in printed.err
    assert not printed.out


def test_a_container_is_the_file_or_the_only_one_in_the_folder(tmp_path: Path) -> None:
    image = container(tmp_path)
    (tmp_path / ".hidden.npz").touch()
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "notes.txt").touch()
    assert find_container(tmp_path, (".npz",)) == find_container(image, (".npz",)) == image
    image.rename(tmp_path / "images.NPZ")
    assert find_container(tmp_path, (".npz",)).name == "images.NPZ"
    with pytest.raises(UserError, match=r"one file that ends in \.csv or \.csv\.gz at .*; found none"):
        find_container(tmp_path, (".csv", ".csv.gz"))
    with pytest.raises(UserError, match="found none"):
        find_container(tmp_path / "notes.txt", (".npz",))
    (tmp_path / "more.npz").touch()
    with pytest.raises(UserError, match=r"found images\.NPZ, more\.npz"):
        find_container(tmp_path, (".npz",))


def test_a_container_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.npz cannot be read: No such file"):
        unpack(tmp_path / "images.npz", tmp_path, blocks, how="")
