"""Resuming after a kill, and flat memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from stub_models import fixed_rule

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.image_folder import find_images
from cxr_pipeline.deployment.scoring import folder as module
from cxr_pipeline.deployment.scoring import score_folder

KEY = "effusion.scoring.folder"

# Score folders with shards of 8 rows, and with worker processes beyond 16 images; optionally kill the process.
SCORE = """
import json, os, resource, signal, sys
from pathlib import Path


def main(saved, batch_size, kill_at, *places):
    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.data.image_folder import find_images
    from cxr_pipeline.deployment.scoring import folder as module, score_folder

    module._SHARD_ROWS, module._FEW_IMAGES = 8, 16
    classifier, n_scored = ImageClassifier.load(Path(saved)), 0
    predict = classifier.model.predict_on_batch

    def counted(images):
        nonlocal n_scored
        n_scored += len(images)
        if n_scored > int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(images)

    classifier.model.predict_on_batch = counted
    for folder, parts in zip(places[::2], places[1::2]):
        images = find_images(folder, key="folder")
        predictions = score_folder(classifier, images, scored_by="1", parts=Path(parts), batch_size=int(batch_size))
        rows = [row for table in predictions for row in table[["image", "probability"]].to_numpy().tolist()]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"n_scored": n_scored, "peak": peak, "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture
def run_script(tmp_path, classifier):
    (tmp_path / "score.py").write_text(SCORE)
    classifier.save(tmp_path / "classifier")

    def run(*places, batch_size, kill_at=10**9):
        arguments = [tmp_path / "score.py", tmp_path / "classifier", batch_size, kill_at, *places]
        return subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
        )

    return run


def results(process):
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]


def counting(classifier):
    """The classifier, and a list that gets the images of each batch that its network sees."""
    seen = []

    class Network:
        weights = classifier.model.weights

        def predict_on_batch(self, images):
            seen.append(len(images))
            return np.asarray(classifier.model.predict_on_batch(images))

    return replace(classifier, model=Network()), seen


def test_a_killed_run_resumes_from_its_last_shard(tmp_path, folder, draw, run_script):
    for number in range(60):
        draw(f"{number:02}.png", 100 + number)
    (folder / "07.png").write_bytes(b"no image")
    killed = run_script(folder, tmp_path / "parts", batch_size=4, kill_at=30)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(len(np.load(file)) for file in (tmp_path / "parts").rglob("rows/*.npy")) == [7, 8, 8]
    (resumed,) = results(run_script(folder, tmp_path / "parts", batch_size=4))
    assert resumed["n_scored"] == 59 - 23
    images, probability = zip(*resumed["rows"], strict=True)
    assert list(images) == [f"{number:02}.png" for number in range(60)]
    expected = np.arange(100, 160) / 255
    expected[7] = np.nan
    np.testing.assert_allclose(np.array(probability, float), expected, atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, folder, draw, run_script):
    first = draw("0000.png")
    for number in range(1, 2000):
        os.link(first, folder / f"{number:04}.png")
    few = tmp_path / "few"
    shutil.copytree(folder, few, ignore=lambda _, names: [name for name in names if name >= "0200"])
    places = (few, tmp_path / "few parts", folder, tmp_path / "parts")
    first, second = results(run_script(*places, batch_size=32))
    assert (len(first["rows"]), len(second["rows"]), second["n_scored"]) == (200, 2000, 2200)
    assert second["peak"] - first["peak"] < 40


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


def test_a_folder_that_cannot_be_written_is_reported_before_any_work(tmp_path, folder, draw, classifier):
    draw("image.png")
    (tmp_path / "out").write_text("a file")
    counted, seen = counting(classifier)
    images = find_images(str(folder), key=KEY)
    with pytest.raises(UserError, match=r"out/parts/table.parquet could not be written: Not a directory"):
        score_folder(counted, images, scored_by="1", parts=tmp_path / "out" / "parts", batch_size=2)
    assert not seen


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
