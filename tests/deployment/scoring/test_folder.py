import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stub_models import fixed_rule

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.scoring import folder as module

# Score a folder with shards of 8 rows, and kill the process after 30 images.
SCORE = """
import os, signal, sys
from pathlib import Path
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.scoring import folder as module

saved, images, parts = sys.argv[1:]
module._SHARD_ROWS = 8
classifier, n_scored = ImageClassifier.load(Path(saved)), 0
predict = classifier.model.predict_on_batch

def counted(batch):
    global n_scored
    n_scored += len(batch)
    if n_scored > 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return predict(batch)

classifier.model.predict_on_batch = counted
module.score_folder(classifier, find_images(images, key="folder"), scored_by="1", parts=Path(parts), batch_size=4)
"""


def counting(classifier):
    """The classifier, and a list that gets the images of each batch that its network sees."""
    seen = []

    class Network:
        weights = classifier.model.weights

        def predict_on_batch(self, images):
            seen.append(len(images))
            return np.asarray(classifier.model.predict_on_batch(images))

    return replace(classifier, model=Network()), seen


def test_a_killed_run_resumes_from_its_last_shard(tmp_path, folder, draw, classifier, score, monkeypatch):
    for number in range(60):
        draw(f"{number:02}.png", 100 + number)
    (folder / "07.png").write_bytes(b"no image")
    classifier.save(tmp_path / "classifier")
    parts = tmp_path / "predictions.parts"
    killed = subprocess.run([sys.executable, "-c", SCORE, tmp_path / "classifier", folder, parts], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(len(np.load(file)) for file in parts.rglob("rows/*.npy")) == [7, 8, 8]
    monkeypatch.setattr(module, "_SHARD_ROWS", 8)
    counted, seen = counting(classifier)
    predictions = score(counted, folder, scored_by="1", batch_size=4)
    assert sum(seen) == 59 - 23
    assert predictions.image.tolist() == [f"{number:02}.png" for number in range(60)]
    expected = np.arange(100, 160) / 255
    expected[7] = np.nan
    np.testing.assert_allclose(predictions.probability, expected, atol=1e-6)


def test_only_new_and_changed_images_are_scored_again(folder, draw, classifier, score):
    for number in range(10):
        path = draw(f"{number}.png", 100)
        path.write_bytes(path.read_bytes().ljust(500, b"\0"))
    counted, seen = counting(classifier)
    first = score(counted, folder)
    pd.testing.assert_frame_equal(score(counted, folder), first)
    assert sum(seen) == 10
    seen.clear()
    draw("00.png", 120)
    draw("a/new.png", 140)
    before = (folder / "4.png").stat()
    (folder / "4.png").write_bytes(draw("4.png", 160).read_bytes().ljust(500, b"\0"))
    os.utime(folder / "4.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (folder / "4.png").stat().st_size == before.st_size
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes() + b"more")
    os.utime(folder / "5.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "7.png").unlink()
    (folder / "8.png").rename(folder / "7b.png")
    predictions = score(counted, folder).set_index("image").probability * 255
    assert sum(seen) == 5
    names = ["0.png", "00.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "7b.png", "9.png", "a/new.png"]
    assert predictions.index.tolist() == names
    np.testing.assert_allclose(predictions, [100, 120, 100, 100, 100, 160, 100, 100, 100, 100, 140], atol=1e-4)


@pytest.mark.parametrize("changed", ["version", "rule", "recipe", "limit", "folder"])
def test_another_model_or_folder_scores_all_images_again(changed, tmp_path, folder, draw, classifier, score):
    for number in range(4):
        draw(f"{number}.png", 100)
    counted, seen = counting(classifier)
    score(counted, folder)
    seen.clear()
    recipe = counted.recipe
    other = {
        "rule": replace(counted, decision_rule=fixed_rule(threshold=0.1)),
        "recipe": replace(counted, recipe=replace(recipe, mode="fit")),
        "limit": replace(counted, recipe=replace(recipe, max_megapixels=0.001)),
    }.get(changed, counted)
    folder = shutil.copytree(folder, tmp_path / "copy") if changed == "folder" else folder
    predictions = score(other, folder, scored_by="2" if changed == "version" else "models:/cxr-effusion/1")
    if changed == "limit":
        assert predictions.reason.tolist() == ["too_large"] * 4
    else:
        assert sum(seen) == 4
        assert set(predictions.decision) == {"effusion" if changed == "rule" else "nofinding"}
    assert len([path for path in (tmp_path / "predictions.parts").iterdir() if path.is_dir()]) == 1


def test_unreadable_images_and_links_are_tried_again(tmp_path, folder, draw, classifier, score):
    good = draw("good.png").read_bytes()
    state = draw("late.png").stat()
    (folder / "late.png").write_bytes(b"x" * len(good))
    os.utime(folder / "late.png", ns=(0, state.st_mtime_ns))
    (folder / "link.png").symlink_to("target.png")
    draw("target.png", 100)
    before = (folder / "target.png").stat()
    assert score(classifier, folder).status.tolist() == ["scored", "refused", "scored", "scored"]
    (folder / "late.png").write_bytes(good)
    os.utime(folder / "late.png", ns=(0, state.st_mtime_ns))
    (folder / "link.png").unlink()
    (folder / "link.png").symlink_to("other.png")
    draw("other.png", 200)
    os.utime(folder / "other.png", ns=(0, before.st_mtime_ns))
    predictions = score(classifier, folder).set_index("image").probability * 255
    np.testing.assert_allclose(predictions[["late.png", "link.png"]], [51, 200], atol=1e-4)


def test_rows_of_images_that_are_gone_are_removed(tmp_path, folder, draw, classifier, score, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_ROWS", 2)
    images = [draw(f"{number}.png") for number in range(6)]
    score(classifier, folder)
    for image in images[1:4]:
        image.unlink()
    assert score(classifier, folder).image.tolist() == ["0.png", "4.png", "5.png"]
    assert len(list((tmp_path / "predictions.parts").rglob("rows/*.npy"))) == 2


def test_a_full_disk_ends_the_run_and_keeps_the_rows_before(folder, draw, classifier, score, monkeypatch):
    for number in range(6):
        draw(f"{number}.png")
    counted, seen = counting(classifier)
    monkeypatch.setattr(module, "_SHARD_ROWS", 2)
    flush = os.fsync

    def full(file):
        if len(seen) > 1:
            raise OSError(28, "No space left on device")
        flush(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"could not be written: No space left"):
            score(counted, folder)
    seen.clear()
    assert len(score(counted, folder)) == 6
    assert sum(seen) == 4


@pytest.mark.parametrize(("batch_size", "few_images", "window"), [(1, 100, 100), (3, 100, 3), (7, 4, 10)])
def test_batches_windows_and_processes_change_nothing(
    classifier, folder, draw, score, monkeypatch, batch_size, few_images, window
):
    monkeypatch.setattr(module, "_FEW_IMAGES", few_images)
    monkeypatch.setattr(module, "_WINDOW", window)
    monkeypatch.setattr(module, "n_cores", lambda: 2)
    greys = np.linspace(20, 230, 19).astype(int)
    for grey in greys:
        draw(f"{grey:03}.png", grey)
    draw("bad.png").write_bytes(b"no image")
    predictions = score(classifier, folder, batch_size=batch_size)
    np.testing.assert_allclose(predictions.probability, [*greys / 255, np.nan], atol=1e-6)
    assert predictions.reason.dropna().tolist() == ["unreadable"]


def test_an_image_that_vanishes_while_scoring_is_refused(classifier, folder, draw, score, monkeypatch):
    for number in range(4):
        draw(f"{number}.png")
    prepare = module._prepare

    def vanishing(*arguments, **options):
        (folder / "2.png").unlink()
        return prepare(*arguments, **options)

    monkeypatch.setattr(module, "_prepare", vanishing)
    assert score(classifier, folder).reason.fillna("").tolist() == ["", "", "unreadable", ""]


def test_a_link_that_leaves_the_folder_is_refused(classifier, tmp_path, folder, draw, score):
    secret = draw("secret.png", below=tmp_path / "elsewhere")
    inside = draw("inside.png")
    (folder / "image.png").symlink_to(secret)
    (folder / "up.png").symlink_to("../elsewhere/secret.png")
    (folder / "ward").symlink_to(secret.parent)
    (folder / "again.png").symlink_to(inside.name)
    (folder / "loop").symlink_to(".")
    predictions = score(classifier, folder).set_index("image")
    assert predictions.index.tolist() == ["again.png", "image.png", "inside.png", "up.png", "ward"]
    assert predictions.status.tolist() == ["scored", "refused", "scored", "refused", "refused"]
    assert predictions.reason.dropna().unique().tolist() == ["outside_source"]


def test_pipes_dangling_links_and_unreadable_folders_are_refused(classifier, folder, draw, score, monkeypatch):
    draw("image.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("absent.png")
    (folder / "self.png").symlink_to("self.png")
    draw("locked/image.png")
    scan = os.scandir

    def scan_all_but_one(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_all_but_one)
    reasons = score(classifier, folder).set_index("image").reason.fillna("").to_dict()
    refused = dict.fromkeys(["locked", "nowhere.png", "pipe.png", "self.png"], "unreadable")
    assert reasons == {"image.png": "", **refused}


def test_hostile_names(classifier, tmp_path, folder, draw, score):
    names = ["with space", "-rf", "two\nlines", "a\rreturn", 'quote",comma', "Röntgen 肺", "$(touch x);", "back\\slash"]
    for name in names:
        draw(f"{name}.png", 204)
    draw(b"\xff\xfe.png", 204)
    predictions = score(classifier, folder)
    assert sorted(predictions.image) == sorted([*(f"{name}.png" for name in names), r"\xff\xfe.png"])
    assert set(predictions.status) == {"scored"}
    predictions.to_parquet(tmp_path / "predictions.parquet")
    assert pd.read_parquet(tmp_path / "predictions.parquet").image.tolist() == predictions.image.tolist()
