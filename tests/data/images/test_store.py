import hashlib
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import dicom, levels

from cxr_pipeline.common import array_store, parallel
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.data.images import store
from cxr_pipeline.data.images.morphology import apply_steps
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources.readers import FileReader

RECIPE = Recipe(size=24, mode="fit", max_megapixels=10)
STEPS = ({"operation": "opening", "shape": "ellipse", "size": 3},)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(array_store, "_SHARD_ROWS", 4)


def placed(files):
    return {sha256: (FileReader(path.parent), path.name) for sha256, path in files.items()}


def prepared(files, recipe=RECIPE):
    return np.stack([recipe.prepare(path.read_bytes()) for path in files.values()])


def filled(folder, files):
    images = PreparedImages(folder, RECIPE)
    assert images.fill(placed(files)).empty
    return images


def test_prepared_images_are_read_in_the_given_order(folder, write_images, small_shards):
    files = write_images(11)
    filled(folder, files)
    assert len(list(folder.rglob("images/[!.]*.npy"))) == 3
    images = PreparedImages(folder, RECIPE)
    order = [*np.random.default_rng(0).permutation(11), 0]
    asked = [list(files)[position] for position in order]
    read = images.read(asked)
    assert read.dtype == np.uint8
    assert np.array_equal(read, prepared(files)[order])
    batches = list(images.batches(asked, 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert np.array_equal(np.concatenate(batches), read)


def test_worker_processes_make_the_same_store(folder, write_images, small_shards, monkeypatch):
    monkeypatch.setattr(store, "_FEW_BYTES_TO_DECODE", 0)
    monkeypatch.setattr(store, "_FEW_IMAGES_TO_ENHANCE", 0)
    files = write_images(10)
    bad = next(iter(files.values())).with_name("bad.png")
    bad.write_text("text")
    images = PreparedImages(folder, RECIPE)
    with parallel.dask_client(None, workers=2) as client:
        monkeypatch.setattr(parallel, "dask_client", lambda *_, **__: nullcontext(client))
        refused = images.fill(placed({**files, hashlib.sha256(b"text").hexdigest(): bad}), workers=2)
        enhanced = images.enhanced(list(files), STEPS, workers=2)
    assert refused.reason.tolist() == ["unreadable"]
    assert np.array_equal(images.read(list(files)), prepared(files))
    assert np.array_equal(enhanced.read(list(files)), prepared(files, replace(RECIPE, steps=STEPS)))


def test_images_whose_window_does_not_fit_are_named_in_every_run(folder, write_images, tmp_path, caplog):
    files = write_images(2)
    for number in range(2):
        content = dicom(levels(12, signed=number > 0), bits=12, WindowCenter=90000, WindowWidth=10)
        (tmp_path / f"{number}.dcm").write_bytes(content)
        files[hashlib.sha256(content).hexdigest()] = tmp_path / f"{number}.dcm"
    for _ in range(2):
        caplog.clear()
        assert PreparedImages(folder, RECIPE).fill(placed(files)).empty
        assert [record.getMessage() for record in caplog.records] == [
            "2 of 4 images (such as 0.dcm): no window or VOI LUT of the header fits the pixel values, which are shown "
            "without one."
        ]


def test_refused_images_are_reported_by_reason_and_remembered(folder, tmp_path, write_images, encode):
    image = np.random.default_rng(5).integers(0, 256, (40, 40), dtype=np.uint8)
    png = encode(image, "PNG")
    contents = {
        "empty": b"",
        "truncated": png[: len(png) // 2],
        "unreadable": b"patient,label\n",
        "too_small": encode(image[:8], "PNG"),
        "too_large": encode(np.tile(image, (100, 100)), "PNG"),
    }
    bad = {
        hashlib.sha256(content).hexdigest(): tmp_path / f"-{reason} \n снимок.png"
        for reason, content in contents.items()
    }
    for path, content in zip(bad.values(), contents.values(), strict=True):
        path.write_bytes(content)
    files = {**bad, **write_images(3)}
    refused = PreparedImages(folder, RECIPE).fill(placed(files))
    assert refused.sha256.tolist() == list(bad)
    assert refused.reason.tolist() == list(contents)
    assert refused.detail.str.len().min() > 0
    for path in files.values():
        path.unlink()
    again = PreparedImages(folder, RECIPE)
    assert again.fill(placed(files)).equals(refused)
    assert again.fill(placed(dict([*bad.items()][1:2]))).reason.tolist() == ["truncated"]


def test_too_little_memory_is_not_a_refusal(folder, write_images, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    files = write_images(2)
    with monkeypatch.context() as patch:
        patch.setattr("cxr_pipeline.data.images.recipe.decode", fail)
        with pytest.raises(Unavailable, match=r"Not enough memory.* to decode .* run the same command again"):
            PreparedImages(folder, RECIPE).fill(placed(files))
    assert PreparedImages(folder, RECIPE).missing(files) == list(files)
    filled(folder, files)


def test_a_changed_or_missing_file_is_refused_for_this_run_only(folder, write_images):
    files = write_images(3)
    changed, missing, _ = files.values()
    good = {path: path.read_bytes() for path in (changed, missing)}
    changed.write_bytes(good[missing])
    missing.unlink()
    images = PreparedImages(folder, RECIPE)
    refused = images.fill(placed(files))
    assert refused.reason.tolist() == ["unreadable", "unreadable"]
    assert "changed while" in refused.detail[0]
    assert "No such file" in refused.detail[1]
    assert images.missing(files) == list(files)[:2]
    for path, content in good.items():
        path.write_bytes(content)
    assert images.fill(placed(files)).empty
    assert np.array_equal(images.read(list(files)), prepared(files))


def test_the_refused_images_do_not_depend_on_the_limits_of_earlier_runs(folder, write_images):
    files = {**write_images(1, size=40), **write_images(1, size=60, seed=1)}
    strict, lenient = replace(RECIPE, max_megapixels=0.003), replace(RECIPE, max_megapixels=0.01)
    first = PreparedImages(folder, strict).fill(placed(files))
    assert first.sha256.tolist() == list(files)[1:]
    assert PreparedImages(folder, lenient).fill(placed(files)).empty
    assert np.array_equal(PreparedImages(folder, lenient).read(list(files)), prepared(files))
    assert PreparedImages(folder, strict).fill(placed(files)).equals(first)


def test_images_without_room_or_that_were_not_prepared_are_reported(folder, write_images, monkeypatch):
    filled(folder, write_images(3))
    with pytest.raises(UserError, match=r"2 of 5 images are not among the prepared images in .* \(the first is "):
        PreparedImages(folder, RECIPE).read([*write_images(3), *write_images(2, seed=1)])
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="Not enough free disk space for the prepared images: 3 images of 24 x 24"):
        PreparedImages(folder, RECIPE).fill(placed(write_images(3, seed=2)))


def test_steps_are_applied_once_to_resized_images(folder, write_images, small_shards, monkeypatch):
    files = write_images(10)
    images = filled(folder, files)
    shutil.rmtree(next(iter(files.values())).parent)
    assert images.enhanced(list(files), ()) is images
    some = list(files)[1:7]
    enhanced = images.enhanced(some, STEPS)
    assert enhanced.digest != images.digest
    expected = np.stack([apply_steps(image, STEPS) for image in images.read(some)])
    assert not np.array_equal(expected, images.read(some))
    assert np.array_equal(PreparedImages(folder, enhanced.recipe).read(some), expected)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_enhance", lambda *_: pytest.fail("enhanced again"))
        assert images.enhanced(some, STEPS) == enhanced
    images.enhanced(list(files), STEPS).check_holds(list(files))
