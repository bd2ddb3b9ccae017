import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_pipeline.common import array_store
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images import store
from cxr_pipeline.data.images.morphology import apply_steps
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import ImageStore, PreparedImages
from cxr_pipeline.data.sources.readers import FileReader, RowReader
from cxr_pipeline.data.sources.unpacking import Block, unpack

Files = dict[str, Path]
RECIPE = Recipe(size=24, mode="fit", max_megapixels=10)
STEPS = ({"operation": "opening", "shape": "ellipse", "size": 3},)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_store, "_SHARD_ROWS", 4)


def placed(files: Files) -> dict[str, tuple[FileReader, str]]:
    return {sha256: (FileReader(path.parent), path.name) for sha256, path in files.items()}


def prepared(files: Files, recipe: Recipe = RECIPE) -> np.ndarray:
    return np.stack([recipe.prepare(path.read_bytes()) for path in files.values()])


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("images/[!.]*.npy"))


def test_images_come_back_prepared_in_the_order_asked(
    folder: Path, write_images: Callable[..., Files], small_shards: None
) -> None:
    files = write_images(11)
    refused = ImageStore(folder, RECIPE).fill(placed(files))
    assert list(refused.columns) == ["sha256", "reason", "detail"]
    assert refused.empty
    assert len(shards(folder)) == 3
    images = PreparedImages(folder, RECIPE)
    assert len(images.store) == 11
    order = [*np.random.default_rng(0).permutation(11), 0]
    asked = [list(files)[position] for position in order]
    read = images.read(asked)
    assert read.dtype == np.uint8
    assert np.array_equal(read, prepared(files)[order])
    batches = list(images.batches(asked, 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert np.array_equal(np.concatenate(batches), read)


def test_processes_make_the_same_store(
    folder: Path, write_images: Callable[..., Files], small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FEW_BYTES_TO_DECODE", 0)
    monkeypatch.setattr(store, "_FEW_IMAGES_TO_ENHANCE", 0)
    files = write_images(10)
    bad = next(iter(files.values())).with_name("bad.png")
    bad.write_text("text")
    files_and_bad = {**files, hashlib.sha256(b"text").hexdigest(): bad}
    images = PreparedImages(folder, RECIPE)
    refused = images.store.fill(placed(files_and_bad), workers=2)
    assert refused.reason.tolist() == ["unreadable"]
    assert np.array_equal(images.read(list(files)), prepared(files))
    enhanced = images.enhanced(list(files), STEPS, workers=2)
    assert np.array_equal(enhanced.read(list(files)), prepared(files, replace(RECIPE, steps=STEPS)))


def test_a_second_run_reads_no_image(folder: Path, write_images: Callable[..., Files]) -> None:
    files = write_images(3)
    ImageStore(folder, RECIPE).fill(placed(files))
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shutil.rmtree(next(iter(files.values())).parent)
    again = ImageStore(folder, RECIPE)
    assert again.missing(files) == []
    assert again.fill(placed(files)).empty
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written


def test_new_images_are_added_and_the_others_left_alone(folder: Path, write_images: Callable[..., Files]) -> None:
    first, more = write_images(3), write_images(2, seed=1)
    images = ImageStore(folder, RECIPE)
    images.fill(placed(first))
    next(iter(first.values())).unlink()
    assert images.missing({**first, **more}) == list(more)
    assert images.fill(placed({**first, **more})).empty
    assert np.array_equal(images.read(list(more)), prepared(more))
    assert len(images) == 5


def test_images_of_several_readers_go_into_one_store(
    folder: Path, tmp_path: Path, write_images: Callable[..., Files]
) -> None:
    files = write_images(2)
    rows = np.random.default_rng(1).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    (tmp_path / "container").write_bytes(b"rows")
    reader = RowReader(unpack(tmp_path / "container", tmp_path, lambda _: iter([Block(rows)]), how=""))
    names = [hashlib.sha256(reader.read(str(row))).hexdigest() for row in range(3)]
    of_rows = {name: (reader, str(row)) for row, name in enumerate(names)}
    images = ImageStore(folder, RECIPE)
    assert images.fill({**of_rows, **placed(files)}).empty
    assert np.array_equal(images.read(list(files)), prepared(files))
    assert np.array_equal(images.read(names), rows)


@pytest.fixture
def bad_images(tmp_path: Path, encode: Callable[..., bytes]) -> dict[str, Path]:
    """A bad image for each reason, by reason."""
    image = np.random.default_rng(5).integers(0, 256, (40, 40), dtype=np.uint8)
    png = encode(image, "PNG")
    contents = {
        "empty": b"",
        "truncated": png[: len(png) // 2],
        "unreadable": b"patient,label\n",
        "too_small": encode(image[:8], "PNG"),
        "too_large": encode(np.tile(image, (100, 100)), "PNG"),
    }
    paths = {}
    for reason, content in contents.items():
        paths[reason] = tmp_path / f"-{reason} \n снимок.png"
        paths[reason].write_bytes(content)
    return paths


def test_bad_images_are_refused_by_reason_and_remembered(
    folder: Path, write_images: Callable[..., Files], bad_images: dict[str, Path]
) -> None:
    good = write_images(3)
    bad = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in bad_images.values()}
    files = {**bad, **good}
    refused = ImageStore(folder, RECIPE).fill(placed(files))
    assert refused.sha256.tolist() == list(bad)
    assert refused.reason.tolist() == list(bad_images)
    assert refused.detail.str.len().min() > 0
    for path in files.values():
        path.unlink()
    again = ImageStore(folder, RECIPE)
    assert again.missing(files) == []
    assert again.fill(placed(files)).equals(refused)
    assert len(again) == 3


def test_only_refusals_of_the_given_images_are_returned(folder: Path, bad_images: dict[str, Path]) -> None:
    bad = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in bad_images.values()}
    images = ImageStore(folder, RECIPE)
    images.fill(placed(bad))
    one = dict(list(bad.items())[:1])
    assert images.fill(placed(one)).sha256.tolist() == list(one)
    assert images.fill(placed({})).empty


def test_a_changed_or_absent_file_is_refused_for_this_run_only(
    folder: Path, write_images: Callable[..., Files]
) -> None:
    files = write_images(3)
    changed, absent, _ = files.values()
    good = {path: path.read_bytes() for path in (changed, absent)}
    changed.write_bytes(good[absent])
    absent.unlink()
    images = ImageStore(folder, RECIPE)
    refused = images.fill(placed(files))
    assert refused.reason.tolist() == ["unreadable", "unreadable"]
    assert "changed while" in refused.detail[0]
    assert "No such file" in refused.detail[1]
    assert images.missing(files) == list(files)[:2]
    for path, content in good.items():
        path.write_bytes(content)
    assert images.fill(placed(files)).empty
    assert np.array_equal(images.read(list(files)), prepared(files))


def test_the_refused_images_do_not_depend_on_the_limits_of_earlier_runs(
    folder: Path, write_images: Callable[..., Files]
) -> None:
    files = {**write_images(1, size=40), **write_images(1, size=60, seed=1)}
    large = list(files)[1]
    strict, lenient = replace(RECIPE, max_megapixels=0.003), replace(RECIPE, max_megapixels=0.01)
    first = ImageStore(folder, strict).fill(placed(files))
    assert first.sha256.tolist() == [large]
    assert ImageStore(folder, lenient).fill(placed(files)).empty
    assert np.array_equal(ImageStore(folder, lenient).read(list(files)), prepared(files))
    assert ImageStore(folder, strict).fill(placed(files)).equals(first)
    assert ImageStore(folder, lenient).fill(placed(files)).empty


def test_a_damaged_shard_is_made_again(folder: Path, write_images: Callable[..., Files], small_shards: None) -> None:
    files = write_images(8)
    ImageStore(folder, RECIPE).fill(placed(files))
    os.truncate(shards(folder)[0], 1000)
    reopened = ImageStore(folder, RECIPE)
    assert len(reopened.missing(files)) == 4
    with pytest.raises(UserError, match="4 of 8 images are not among the prepared images"):
        reopened.read(list(files))
    assert reopened.fill(placed(files)).empty
    assert np.array_equal(reopened.read(list(files)), prepared(files))


def test_too_little_room_is_reported_before_any_work(
    folder: Path, write_images: Callable[..., Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"There is no room for prepared images\. 3 images of 24 x 24 pixels need"):
        ImageStore(folder, RECIPE).fill(placed(write_images(3)))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, write_images: Callable[..., Files]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be written: Not a directory"):
        ImageStore(tmp_path / "file", RECIPE).fill(placed(write_images(1)))


FILL = """
import json, signal, sys
from pathlib import Path
from cxr_pipeline.common import array_store
from cxr_pipeline.data.images import store
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.readers import FileReader
# A shell starts background processes with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
array_store._SHARD_ROWS, store._FEW_BYTES_TO_DECODE = 4, 0
if sys.argv[4:]:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
if __name__ == "__main__":
    images = store.ImageStore(Path(sys.argv[1]), Recipe(size=24, mode="fit", max_megapixels=10))
    files = {sha256: Path(path) for sha256, path in json.loads(Path(sys.argv[2]).read_text()).items()}
    placed = {sha256: (FileReader(path.parent), path.name) for sha256, path in files.items()}
    images.fill(placed, workers=int(sys.argv[3]))
"""


@pytest.fixture
def start_fill(folder: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start to fill the store in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(files: Files, *, workers: int, limited: bool = False) -> "subprocess.Popen[str]":
        (tmp_path / "fill.py").write_text(FILL)
        table = tmp_path / "files.json"
        table.write_text(json.dumps({sha256: str(path) for sha256, path in files.items()}))
        command = [sys.executable, str(tmp_path / "fill.py"), str(folder), str(table), str(workers)]
        command += ["limited"] if limited else []
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def group_is_empty(group: int) -> bool:
    """Whether no process of the group is alive; one that nobody has waited for is not."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_no_more_than_the_shards_in_work(
    how: signal.Signals,
    folder: Path,
    write_images: Callable[..., Files],
    start_fill: Callable[..., "subprocess.Popen[str]"],
) -> None:
    files = write_images(200, size=200)
    process = start_fill(files, workers=2)
    wait_until(lambda: len(shards(folder)) > 2 or process.poll() is not None)
    process.send_signal(how) if how == signal.SIGKILL else os.killpg(process.pid, how)
    assert process.wait(60) != 0
    wait_until(lambda: group_is_empty(process.pid))
    images = ImageStore(folder, RECIPE)
    done = len(images)
    assert 8 < done < 200
    written = {path: path.stat().st_mtime_ns for path in shards(folder)}
    assert len(images.missing(files)) == 200 - done
    assert images.fill(placed(files)).empty
    assert np.array_equal(images.read(list(files)), prepared(files))
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_two_processes_may_fill_at_once(
    folder: Path, write_images: Callable[..., Files], start_fill: Callable[..., "subprocess.Popen[str]"]
) -> None:
    files = write_images(40)
    processes = [start_fill(files, workers=1), start_fill(dict(reversed(files.items())), workers=1)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert np.array_equal(ImageStore(folder, RECIPE).read(list(files)), prepared(files))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_an_error_and_leaves_nothing(
    workers: int, folder: Path, write_images: Callable[..., Files], start_fill: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = start_fill(write_images(8), workers=workers, limited=True)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "could not be written: File too large" in error.splitlines()[-1]
    assert not list(folder.rglob("*.npy"))


def test_no_steps_cost_nothing(folder: Path, write_images: Callable[..., Files]) -> None:
    files = write_images(2)
    images = PreparedImages(folder, RECIPE)
    images.store.fill(placed(files))
    before = sorted(folder.rglob("*"))
    assert images.enhanced(list(files), ()) is images
    assert sorted(folder.rglob("*")) == before


def test_steps_are_run_over_resized_images_once(
    folder: Path, write_images: Callable[..., Files], small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_images(10)
    images = PreparedImages(folder, RECIPE)
    images.store.fill(placed(files))
    shutil.rmtree(next(iter(files.values())).parent)
    some = list(files)[1:7]
    enhanced = images.enhanced(some, STEPS)
    assert enhanced.digest != images.digest
    assert len(enhanced.store) == 6
    expected = np.stack([apply_steps(image, STEPS) for image in images.read(some)])
    assert not np.array_equal(expected, images.read(some))
    assert np.array_equal(PreparedImages(folder, enhanced.recipe).read(some), expected)
    monkeypatch.setattr(store, "_enhance", lambda *_: pytest.fail("enhanced again"))
    assert images.enhanced(some, STEPS) == enhanced
    monkeypatch.undo()
    assert len(images.enhanced(list(files), STEPS).store) == 10


def test_a_store_of_another_size_gives_no_images(folder: Path) -> None:
    other = ImageStore(folder, replace(RECIPE, size=25))
    with pytest.raises(ValueError, match="expected a store of the same size and mode"):
        ImageStore(folder, replace(RECIPE, steps=STEPS)).fill_from(other, [])


def test_a_missing_image_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 1 images are not among the prepared images in .* \(the first is abc\)"):
        PreparedImages(folder, RECIPE).read(["abc"])


def test_a_handle_and_a_store_can_be_sent_to_another_process(folder: Path, write_images: Callable[..., Files]) -> None:
    import pickle

    files = write_images(2)
    images = PreparedImages(folder, RECIPE)
    images.store.fill(placed(files))
    copy = pickle.loads(pickle.dumps(images))
    assert copy == images
    assert np.array_equal(copy.read(list(files)), prepared(files))
    assert PreparedImages.from_dict(json.loads(json.dumps(images.to_dict()))) == images


def test_real_images_of_all_sizes_and_colours(shared_data: Path, folder: Path) -> None:
    folders = ("nih_originals/images", "kermany_native/NORMAL", "kermany_native/PNEUMONIA")
    paths = [path for folder in folders for path in sorted((shared_data / folder).iterdir())]
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}
    images = ImageStore(folder, Recipe(size=128, mode="fit", max_megapixels=50))
    assert images.fill(placed(files)).empty
    read = images.read(list(files))
    assert len(read) == len(files) == 46
    assert (read.std(axis=(1, 2)) > 20).all()


@pytest.mark.parametrize(("limit", "workers"), [(0, 1), (-1, 3)])
def test_few_images_are_decoded_in_this_process(
    limit: int, workers: int, folder: Path, write_images: Callable[..., Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_images(3)
    n_bytes = sum(path.stat().st_size for path in files.values())
    used: list[int] = []
    monkeypatch.setattr(store, "_FEW_BYTES_TO_DECODE", n_bytes + limit)
    monkeypatch.setattr(store, "map_in_order", lambda _, shards, workers: used.append(workers) or [{}] * len(shards))
    ImageStore(folder, RECIPE).fill(placed(files), workers=3)
    assert used == [workers]
