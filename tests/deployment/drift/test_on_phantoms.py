"""Rates of false positives, and drift that must be detected."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cxr_pipeline.deployment.drift.detection import FAMILIES, detect_drift
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

NO_LIMITS = {name: {"warn": 0.0, "refuse": None} for name in FAMILIES}
TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)
N_CHECKS = 120


@pytest.fixture(scope="module")
def labelled(phantoms: ImageFeatures) -> ImageFeatures:
    """The phantoms with calibrated probabilities."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.8, 0.8, phantoms.probability.shape)
    return replace(
        phantoms, probability=probability, y_true=(rng.random(probability.shape) < probability).astype(float)
    )


@pytest.fixture(scope="module")
def profile(labelled: ImageFeatures) -> ReferenceProfile:
    return ReferenceProfile.fit(labelled.take(TRAIN), labelled.take(VALIDATION), outputs=("ill",), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_rate_of_false_positives_is_at_most_alpha(labelled, settings, alpha) -> None:
    rng = np.random.default_rng(int(100 * alpha))
    n_significant = n_drift = 0
    for _ in range(N_CHECKS):
        order = rng.permutation(len(labelled))
        training, validation, new = (labelled.take(order[part]) for part in (TRAIN, VALIDATION, NEW))
        profile = ReferenceProfile.fit(training, validation, outputs=("ill",), seed=0)
        checked = {**settings, "alpha": alpha}
        n_significant += detect_drift(profile, new, **{**checked, "limits": NO_LIMITS})["verdict"] == "warn"
        n_drift += detect_drift(profile, new, **checked)["verdict"] != "none"
    # Three standard errors above alpha. Holm's correction is conservative because the tests are dependent.
    assert 0 < n_significant / N_CHECKS <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / N_CHECKS)
    assert n_drift <= n_significant


CHANGES = {
    "brightness": lambda image, _: np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
    "noise": lambda image, rng: np.clip(image + rng.normal(0, 7, image.shape), 0, 255).astype(np.uint8),
    "centre_across": lambda image, _: np.roll(image, 5, axis=1),
    "sharpness": lambda image, _: cv2.GaussianBlur(image, (0, 0), 1.2),
    "black_border": lambda image, _: cv2.copyMakeBorder(image[4:-4, 4:-4], 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0),
}


@pytest.mark.parametrize("statistic", CHANGES)
def test_a_change_of_the_images_shows_in_its_statistic(images, profile, extract, labelled, settings, statistic) -> None:
    rng = np.random.default_rng(0)
    new = extract(np.stack([CHANGES[statistic](image, rng) for image in images[NEW]]))
    known = labelled.take(NEW)
    report = detect_drift(profile, replace(new, probability=known.probability, y_true=known.y_true), **settings)
    verdicts = {family["name"]: family["verdict"] for family in report["families"]}
    assert verdicts["pixels"] in ("warn", "refuse")
    assert {verdicts[name] for name in ("scores", "prevalence", "calibration")} == {"none"}
    assert statistic in {test["name"] for test in report["families"][0]["tests"] if test["verdict"] != "none"}
