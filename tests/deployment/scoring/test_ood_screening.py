"""Images that are unlike those of the model, on their way through the network."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.feature_extraction import extract_features
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring import Predictions, find_images, score_folder, summarise
from cxr_pipeline.deployment.scoring.ood_screening import Lookout
from cxr_pipeline.deployment.scoring.predictions import UNLIKE
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 16
ASKED: dict[str, Any] = {"unlike": "flag", "false_alarms": 0.02, "min_images": 30, "max_images": 6, "seed": 3}


def phantom(patient: int) -> np.ndarray:
    return next(draw_patient(patient, size=SIZE, prevalence={}, seed=1)).pixels


@pytest.fixture(scope="module")
def watched(classifier: ImageClassifier) -> tuple[ImageClassifier, ReferenceProfile]:
    """A network with features, and the profile of the phantoms that it would come from."""
    image = keras.Input((SIZE, SIZE, 1))
    grey = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(1 / 255))(image)
    pooled = keras.layers.Flatten(name=POOLED)(keras.layers.AveragePooling2D(4)(grey))
    score = keras.layers.Dense(1, "sigmoid", name=OUTPUT, kernel_initializer=keras.initializers.Constant(0.1))
    owner = replace(classifier, model=keras.Model(image, score(pooled)))
    images = np.stack([phantom(patient) for patient in range(1, 161)])
    own = [extract_features(owner.model, owner.decision_rule, [part]) for part in (images[:100], images[100:])]
    return owner, ReferenceProfile.fit(*own, outputs=("effusion",), seed=0)


@pytest.fixture
def images(folder: Path) -> Path:
    """Twenty phantoms, an image of noise and a file that is no image."""
    folder.mkdir()
    for patient in range(201, 221):
        cv2.imwrite(str(folder / f"{patient}.png"), phantom(patient))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


class Counting(Lookout):
    """Counts the images that go through its network."""

    n_seen = 0

    def judge(self, prepared: Any, drawn: Any) -> pd.DataFrame:
        self.n_seen += sum(not isinstance(image, ImageRefused) for image in prepared)
        return super().judge(prepared, drawn)


@pytest.fixture
def score(
    tmp_path: Path, watched: tuple[ImageClassifier, ReferenceProfile]
) -> Callable[..., tuple[Predictions, Counting]]:
    def score_images(folder: Path, heatmaps: Path | None = None, **asked: Any) -> tuple[Predictions, Counting]:
        lookout = Counting(*watched, **{**ASKED, **asked})
        where: dict[str, Any] = {"scored_by": "1", "parts": tmp_path / "parts", "batch_size": 4, "heatmaps": heatmaps}
        return score_folder(watched[0], find_images(str(folder), key="k"), **where, lookout=lookout), lookout

    return score_images


def table(predictions: Predictions) -> pd.DataFrame:
    return pd.concat(predictions, ignore_index=True).set_index("image")


def test_a_flagged_image_keeps_its_probability(score, images, watched) -> None:
    predictions, lookout = score(images)
    rows = table(predictions)
    assert rows.columns.tolist() == ["probability", "decision", "status", "reason"]
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["scored", UNLIKE]
    assert rows.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    assert (rows["reason"] == UNLIKE).sum() <= 2
    names = rows.index[rows["status"] == "scored"]
    expected = watched[0].score([(images / name).read_bytes() for name in names])
    np.testing.assert_allclose(rows.loc[names, "probability"], expected["probability"], atol=1e-6)
    assert rows.loc[names, "decision"].tolist() == expected["decision"].tolist()
    record = summarise(predictions, watched[0])
    assert (record["n_images"], record["n_scored"], record["refused"]) == (22, 21, {"unreadable": 1})
    assert record["flagged"] == {UNLIKE: (rows["reason"] == UNLIKE).sum()}
    assert lookout.n_seen == 21


def test_a_image_can_be_refused_for_it_and_has_no_heat_map(score, images, tmp_path) -> None:
    predictions, _ = score(images, unlike="refuse", heatmaps=tmp_path / "maps")
    rows = table(predictions)
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["refused", UNLIKE]
    assert rows.loc["noise.png", ["probability", "decision"]].isna().all()
    drawn = {path.name.removesuffix(".png") for path in (tmp_path / "maps").iterdir()}
    assert drawn == set(rows.index[rows["status"] == "scored"])


def test_or_nothing_is_made_of_it(score, images) -> None:
    predictions, _ = score(images, unlike="ignore")
    assert table(predictions)["reason"].dropna().tolist() == ["unreadable"]


def test_what_was_looked_at_is_not_looked_at_again(score, images) -> None:
    first = table(score(images)[0])
    predictions, lookout = score(images)
    assert lookout.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), first)
    assert len(predictions.observed()) == len(lookout.draw(find_images(str(images), key="k"))) == 6


@pytest.mark.parametrize("changed", [{"unlike": "refuse"}, {"false_alarms": 0.2}, {"min_images": 40}])
def test_another_setting_scores_all_anew(score, images, changed) -> None:
    predictions, _ = score(images)
    del predictions
    predictions, lookout = score(images, **changed)
    assert (lookout.n_seen, predictions.n_kept) == (21, 0)


def test_what_is_seen_of_the_sample_is_what_the_network_gives(score, images, watched) -> None:
    predictions, lookout = score(images, max_images=100)
    seen = lookout.observed(predictions.observed())
    owner = watched[0]
    names = sorted(path.name for path in images.iterdir() if path.name != "broken.png")
    prepared = np.stack([owner.prepare((images / name).read_bytes()) for name in names])
    expected = extract_features(owner.model, owner.decision_rule, [prepared])
    for part in ("statistics", "features", "probability"):
        found = sorted(getattr(seen, part).round(4).tolist())
        np.testing.assert_allclose(found, sorted(getattr(expected, part).round(4).tolist()), atol=2e-4)
    assert np.isnan(seen.y_true).all()


def test_a_refused_image_counts_among_those_taken_together(score, images) -> None:
    flagged, _ = score(images, max_images=100)
    seen = flagged.observed()
    del flagged
    assert score(images, max_images=100, unlike="refuse")[0].observed() == seen


def test_the_draw_follows_the_images_that_come_and_go(score, images) -> None:
    """As images come, only they are scored; where drawn ones go, others in their place are looked at once."""
    predictions, lookout = score(images)
    del predictions
    for patient in range(301, 311):
        cv2.imwrite(str(images / f"{patient}.png"), phantom(patient))
    predictions, lookout = score(images)
    assert (lookout.n_seen, len(predictions.observed())) == (10, 6)
    del predictions
    for image in lookout.draw(find_images(str(images), key="k"))[:3]:
        (images / image.path).unlink()
    predictions, lookout = score(images)
    assert len(predictions.observed()) == 6
    assert lookout.n_seen <= 3
    before = table(predictions)
    del predictions
    predictions, lookout = score(images)
    assert lookout.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), before)


def test_a_larger_sample_looks_at_the_images_that_it_adds(score, images) -> None:
    predictions, _ = score(images)
    del predictions
    predictions, lookout = score(images, max_images=12)
    assert 0 < lookout.n_seen <= 6
    assert len(predictions.observed()) in (11, 12)
    # What could not be read is tried again in every run.
    assert predictions.n_kept == 21 - lookout.n_seen


def test_after_a_kill_the_rest_is_scored(score, images, monkeypatch) -> None:
    from cxr_pipeline.deployment.scoring import folder as module

    real = module.Parts
    monkeypatch.setattr(module, "Parts", lambda *given: real(*given, n_images=4))
    whole, _ = score(images)
    expected, sample = table(whole), sorted(whole.observed())
    shutil.rmtree(whole.parts._folder)
    del whole
    judge = Counting.judge

    def killed(self: Counting, prepared: Any, drawn: Any) -> pd.DataFrame:
        if self.n_seen >= 8:
            raise KeyboardInterrupt
        return judge(self, prepared, drawn)

    monkeypatch.setattr(Counting, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        score(images)
    monkeypatch.setattr(Counting, "judge", judge)
    predictions, lookout = score(images)
    assert lookout.n_seen == 21 - 8
    pd.testing.assert_frame_equal(table(predictions), expected)
    assert sorted(predictions.observed()) == sample
