"""Resuming after a kill, and flat memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.image_folder import find_images
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.scoring import folder as module
from cxr_pipeline.deployment.scoring import score_folder
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule, rule_from_dict
from cxr_pipeline.training.networks.build import build_model

KEY = "effusion.scoring.folder"

Draw = Callable[..., Path]
Score = Callable[..., pd.DataFrame]

# Score a folder, with shards of 8 rows and worker processes beyond 16 images; kill the process before a batch if asked to.
SCORE = """
import json, os, resource, signal, sys
from pathlib import Path


def main(folder, parts, kill_at):
    import keras
    import pandas as pd
    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.evaluation.decision_rule import rule_from_dict
    from cxr_pipeline.data.images.recipe import Recipe
    from cxr_pipeline.training.networks.build import build_model
    from cxr_pipeline.data.image_folder import find_images
    from cxr_pipeline.deployment.scoring import folder as module, score_folder

    if kill_at is not None:
        module._SHARD_ROWS, module._FEW_IMAGES = 8, 16
    network = build_model(
        name="small_cnn", weights_file=None, size=32, n_outputs=1, exclusive=False, head_units=0, dropout=0, seed=1
    )
    predict, n_scored = network.predict_on_batch, 0

    def counted(images):
        nonlocal n_scored
        n_scored += len(images)
        if kill_at is not None and n_scored > kill_at > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(images)

    network.predict_on_batch = counted
    classifier = ImageClassifier(
        network, Recipe(size=32, mode="fit", max_megapixels=1.0), rule_from_dict(json.loads(sys.argv[4])), {}
    )
    images = find_images(folder, key="folder")
    batch_size = 4 if kill_at is not None else 32
    predictions = score_folder(classifier, images, scored_by="1", parts=Path(parts), batch_size=batch_size)
    n_rows = sum(len(table) for table in predictions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table = pd.concat(predictions) if n_rows < 500 else pd.DataFrame({"image": [], "probability": []})
    rows = table[["image", "probability"]].to_numpy().tolist()
    print(json.dumps({"n_scored": n_scored, "n_rows": n_rows, "peak": peak, "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
"""


def small_network() -> ImageClassifier:
    """Return the classifier of the script."""
    network = build_model(
        name="small_cnn", weights_file=None, size=32, n_outputs=1, exclusive=False, head_units=0, dropout=0, seed=1
    )
    rule = fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )
    return ImageClassifier(network, Recipe(size=32, mode="fit", max_megapixels=1.0), rule, {})


def run_script(tmp_path: Path, folder: Path, parts: Path, *, kill_at: int | None) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "score.py"
    script.write_text(SCORE)
    rule = small_network().decision_rule.to_dict()
    return subprocess.run(
        [sys.executable, str(script), str(folder), str(parts), json.dumps(kill_at), json.dumps(rule)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def result(process: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout.splitlines()[-1]))


def counting(classifier: ImageClassifier) -> tuple[ImageClassifier, list[int]]:
    """The classifier, and a list that gets the images of each batch that its network sees."""
    seen: list[int] = []

    class Network:
        weights = classifier.model.weights

        def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
            seen.append(len(images))
            return np.asarray(classifier.model.predict_on_batch(images))

    return replace(classifier, model=Network()), seen  # type: ignore[arg-type]


def test_a_killed_run_resumes_from_its_last_shard(tmp_path: Path, folder: Path, draw: Draw) -> None:
    for number in range(60):
        path = draw(f"{number:02}.png")
        blobs = np.random.default_rng(number).integers(0, 256, (1 + number % 7, 2 + number % 5), np.uint8)
        cv2.imwrite(str(path), cv2.resize(blobs, (48, 48)))
    (folder / "07.png").write_bytes(b"no image")
    killed = run_script(tmp_path, folder, tmp_path / "parts", kill_at=30)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(len(np.load(file)) for file in (tmp_path / "parts").rglob("rows/*.npy")) == [7, 8, 8]
    resumed = result(run_script(tmp_path, folder, tmp_path / "parts", kill_at=0))
    assert resumed["n_scored"] == 59 - 23
    contents = [(folder / f"{number:02}.png").read_bytes() for number in range(60)]
    expected = small_network().score(contents).probability
    assert [image for image, _ in resumed["rows"]] == [f"{number:02}.png" for number in range(60)]
    np.testing.assert_allclose(np.array([row[1] for row in resumed["rows"]], dtype=float), expected, atol=1e-6)
    assert expected.round(5).nunique() > 30
    assert np.flatnonzero(np.isnan(expected)).tolist() == [7]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, folder: Path, draw: Draw) -> None:
    first = draw("0000.png")
    for number in range(1, 2000):
        os.link(first, folder / f"{number:04}.png")
    few = tmp_path / "few"
    shutil.copytree(folder, few, ignore=lambda _, names: [name for name in names if name >= "0200"])
    peaks = {}
    for n_images, images in ((200, few), (2000, folder)):
        measured = result(run_script(tmp_path, images, tmp_path / f"parts-{n_images}", kill_at=None))
        assert measured["n_scored"] == measured["n_rows"] == n_images
        peaks[n_images] = measured["peak"]
    assert peaks[2000] - peaks[200] < 40, peaks


def test_scored_images_are_not_scored_again(
    folder: Path, draw: Draw, classifier: ImageClassifier, score: Score
) -> None:
    for number in range(10):
        draw(f"{number}.png", 100 + number)
    counted, seen = counting(classifier)
    first = score(counted, folder)
    assert sum(seen) == 10
    pd.testing.assert_frame_equal(score(counted, folder), first)
    assert sum(seen) == 10


def test_new_and_changed_images_are_scored(folder: Path, draw: Draw, classifier: ImageClassifier, score: Score) -> None:
    for number in range(10):
        path = draw(f"{number}.png", 100)
        path.write_bytes(path.read_bytes().ljust(500, b"\0"))
    counted, seen = counting(classifier)
    score(counted, folder)
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
def test_another_model_or_folder_scores_all_images_again(
    changed: str, tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier, score: Score
) -> None:
    for number in range(4):
        draw(f"{number}.png", 100)
    counted, seen = counting(classifier)
    score(counted, folder)
    seen.clear()
    other, scored_by = counted, "models:/cxr-effusion/1"
    if changed == "version":
        scored_by = "models:/cxr-effusion/2"
    elif changed == "rule":
        other = replace(
            counted, decision_rule=rule_from_dict({**counted.decision_rule.to_dict(), "thresholds": {"effusion": 0.1}})
        )
    elif changed == "recipe":
        other = replace(counted, recipe=replace(counted.recipe, mode="fit"))
    elif changed == "limit":
        other = replace(counted, recipe=replace(counted.recipe, max_megapixels=0.001))
    else:
        folder = shutil.copytree(folder, tmp_path / "copy")
    predictions = score(other, folder, scored_by=scored_by)
    if changed == "limit":
        assert predictions.reason.tolist() == ["too_large"] * 4
    else:
        assert sum(seen) == 4
        assert set(predictions.decision) == {"effusion" if changed == "rule" else "nofinding"}
    assert len([path for path in (tmp_path / "predictions.parts").iterdir() if path.is_dir()]) == 1


def test_unreadable_images_and_links_are_tried_again(
    tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier, score: Score
) -> None:
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


def test_a_permanent_refusal_is_not_repeated(
    folder: Path, draw: Draw, classifier: ImageClassifier, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("image.png")
    draw("empty.png").write_bytes(b"")
    score(classifier, folder)
    monkeypatch.setattr("cxr_pipeline.data.images.decoding.read_bytes", None)
    assert score(classifier, folder).reason.fillna("").tolist() == ["empty", ""]


def test_rows_of_images_that_are_gone_are_removed(
    tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD_ROWS", 2)
    images = [draw(f"{number}.png") for number in range(6)]
    score(classifier, folder)
    for image in images[1:4]:
        image.unlink()
    assert score(classifier, folder).image.tolist() == ["0.png", "4.png", "5.png"]
    assert len(list((tmp_path / "predictions.parts").rglob("rows/*.npy"))) == 2


def test_damaged_rows_are_scored_again(
    tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier, score: Score
) -> None:
    for number in range(4):
        draw(f"{number}.png", 100 + number)
    counted, seen = counting(classifier)
    first = score(counted, folder)
    (rows,) = (tmp_path / "predictions.parts").rglob("rows/*.npy")
    rows.write_bytes(rows.read_bytes()[:-1])
    pd.testing.assert_frame_equal(score(counted, folder), first)
    assert sum(seen) == 8


def test_two_runs_at_once_are_refused(tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier) -> None:
    draw("image.png")
    arguments = {"scored_by": "1", "parts": tmp_path / "parts", "batch_size": 2}
    images = find_images(str(folder), key=KEY)
    first = score_folder(classifier, images, **arguments)
    with pytest.raises(UserError, match=r"Another process scores images into"):
        score_folder(classifier, images, **arguments)
    assert [len(table) for table in first] == [1]
    del first
    assert len(score_folder(classifier, images, **arguments)) == 1


def test_a_folder_that_cannot_be_written_is_reported_before_any_work(
    tmp_path: Path, folder: Path, draw: Draw, classifier: ImageClassifier
) -> None:
    draw("image.png")
    (tmp_path / "out").write_text("a file")
    counted, seen = counting(classifier)
    images = find_images(str(folder), key=KEY)
    with pytest.raises(UserError, match=r"Predictions cannot be written to .*out/parts"):
        score_folder(counted, images, scored_by="1", parts=tmp_path / "out" / "parts", batch_size=2)
    assert not seen


def test_a_full_disk_ends_the_run_and_keeps_the_rows_before(
    folder: Path, draw: Draw, classifier: ImageClassifier, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        draw(f"{number}.png")
    counted, seen = counting(classifier)
    monkeypatch.setattr(module, "_SHARD_ROWS", 2)
    flush = os.fsync

    def full(file: int) -> None:
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
