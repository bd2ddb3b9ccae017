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
import stub_models

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.image_folder import find_images
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.feature_extraction import extract_features
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring import Predictions, score_folder, summarise
from cxr_pipeline.deployment.scoring import folder as module
from cxr_pipeline.deployment.scoring.out_of_distribution import Screening
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 16
OOD = "out_of_distribution"
DEFAULTS: dict[str, Any] = {OOD: "flag", "false_alarms": 0.02, "min_images": 30, "max_images": 6, "seed": 3}


def phantom(patient: int) -> np.ndarray:
    return next(draw_patient(patient, size=SIZE, prevalence={}, seed=1)).pixels


@pytest.fixture(scope="module")
def owner_and_profile(classifier: ImageClassifier) -> tuple[ImageClassifier, ReferenceProfile]:
    """A classifier, and the reference profile of its phantoms."""
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
    """Twenty phantoms, an image of noise and a text file."""
    folder.mkdir()
    for patient in range(201, 221):
        cv2.imwrite(str(folder / f"{patient}.png"), phantom(patient))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


class Counting(Screening):
    """Counts the images that go through its network."""

    n_seen = 0

    def score_batch(self, prepared: Any) -> Any:
        self.n_seen += sum(not isinstance(image, ImageRefused) for image in prepared)
        return super().score_batch(prepared)


@pytest.fixture
def score(
    tmp_path: Path, owner_and_profile: tuple[ImageClassifier, ReferenceProfile]
) -> Callable[..., tuple[Predictions, Counting]]:
    def score_images(folder: Path, heatmaps: Path | None = None, **parameters: Any) -> tuple[Predictions, Counting]:
        screening = Counting(*owner_and_profile, **{**DEFAULTS, **parameters})
        where: dict[str, Any] = {"scored_by": "1", "parts": tmp_path / "parts", "batch_size": 4, "heatmaps": heatmaps}
        return score_folder(
            owner_and_profile[0], find_images(str(folder), key="k"), **where, screening=screening
        ), screening

    return score_images


def table(predictions: Predictions) -> pd.DataFrame:
    return pd.concat(predictions, ignore_index=True).set_index("image")


def test_a_flagged_image_keeps_its_probability(score, images, owner_and_profile) -> None:
    predictions, screening = score(images)
    rows = table(predictions)
    assert rows.columns.tolist() == ["probability", "decision", "status", "reason"]
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["scored", OOD]
    assert rows.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    assert (rows["reason"] == OOD).sum() <= 2
    names = rows.index[rows["status"] == "scored"]
    expected = stub_models.score(owner_and_profile[0], [(images / name).read_bytes() for name in names])
    np.testing.assert_allclose(rows.loc[names, "probability"], expected["probability"], atol=1e-6)
    assert rows.loc[names, "decision"].tolist() == expected["decision"].tolist()
    record = summarise(predictions, owner_and_profile[0])
    assert (record["n_images"], record["n_scored"], record["refused"]) == (22, 21, {"unreadable": 1})
    assert record["flagged"] == {OOD: (rows["reason"] == OOD).sum()}
    assert screening.n_seen == 21


def test_a_refused_image_has_no_heat_map(score, images, tmp_path) -> None:
    predictions, _ = score(images, out_of_distribution="refuse", heatmaps=tmp_path / "maps")
    rows = table(predictions)
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["refused", OOD]
    assert rows.loc["noise.png", ["probability", "decision"]].isna().all()
    drawn = {path.name.removesuffix(".png") for path in (tmp_path / "maps").iterdir()}
    assert drawn == set(rows.index[rows["status"] == "scored"])


def test_images_are_screened_again_only_with_other_parameters(score, images) -> None:
    first = table(score(images)[0])
    predictions, screening = score(images)
    assert screening.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), first)
    assert len(predictions.features) == len(screening.sample(find_images(str(images), key="k"))) == 6
    for changed in ({OOD: "ignore"}, {"false_alarms": 0.2}, {"min_images": 40}):
        predictions, screening = score(images, **changed)
        assert (screening.n_seen, predictions.n_kept) == (21, 0)
        if OOD in changed:
            assert table(predictions)["reason"].dropna().tolist() == ["unreadable"]


def test_the_sample_follows_images_that_come_and_go(score, images) -> None:
    """New images are scored once; an image that replaces a removed one in the sample is scored once more."""
    predictions, screening = score(images)
    for patient in range(301, 311):
        cv2.imwrite(str(images / f"{patient}.png"), phantom(patient))
    predictions, screening = score(images)
    assert (screening.n_seen, len(predictions.features)) == (10, 6)
    for image in screening.sample(find_images(str(images), key="k"))[:3]:
        (images / image.path).unlink()
    predictions, screening = score(images)
    assert len(predictions.features) == 6
    assert screening.n_seen <= 3
    before = table(predictions)
    predictions, screening = score(images)
    assert screening.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), before)


def test_after_a_kill_the_rest_is_scored(score, images, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SHARD_ROWS", 4)
    whole, _ = score(images)
    expected, sample = table(whole), whole.features
    shutil.rmtree(tmp_path / "parts")
    score_batch = Counting.score_batch

    def killed(self: Counting, prepared: Any) -> Any:
        if self.n_seen >= 8:
            raise KeyboardInterrupt
        return score_batch(self, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(Counting, "score_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            score(images)
    predictions, screening = score(images)
    assert screening.n_seen == 21 - 8
    pd.testing.assert_frame_equal(table(predictions), expected)
    np.testing.assert_array_equal(predictions.features, sample)
