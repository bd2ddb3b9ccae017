"""How often drift is found where there is none, and that it is found where there is some."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.drift.detection import FAMILIES, DriftSettings, Limits, detect_drift
from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.profile import Profile, reference_profile

LIMITS = {
    "pixels": Limits(0.2, 0.9),
    "features": Limits(0.65, 0.9),
    "scores": Limits(0.1, 0.5),
    "prevalence": Limits(0.2, 0.8),
    "calibration": Limits(0.05, 0.25),
}
NO_LIMITS = dict.fromkeys(FAMILIES, Limits(0, None))
TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)
N_CHECKS = 120


def check(profile: Profile, new: Observed, *, alpha: float = 0.01, limits=LIMITS):
    return detect_drift(profile, new, DriftSettings(alpha, 30, limits, 0))


@pytest.fixture(scope="module")
def labelled(seen: Observed) -> Observed:
    """The phantoms with labels of which the probabilities are honest."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.8, 0.8, seen.probability.shape)
    return replace(seen, probability=probability, y_true=(rng.random(probability.shape) < probability).astype(float))


@pytest.fixture(scope="module")
def profile(labelled: Observed, some) -> Profile:
    return reference_profile(some(labelled, TRAIN), some(labelled, VALIDATION), outputs=("ill",), seed=0)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_chance_alone_is_significant_no_more_often_than_is_promised(labelled, some, alpha) -> None:
    rng = np.random.default_rng(int(100 * alpha))
    n_significant = n_found = 0
    for _ in range(N_CHECKS):
        dealt = rng.permutation(len(labelled))
        parts = [some(labelled, dealt[part]) for part in (TRAIN, VALIDATION, NEW)]
        profile = reference_profile(*parts[:2], outputs=("ill",), seed=0)
        n_significant += check(profile, parts[2], alpha=alpha, limits=NO_LIMITS).verdict == "warn"
        n_found += check(profile, parts[2], alpha=alpha).verdict != "none"
    # Three standard errors above the level; the correction is for dependent tests too, hence cautious.
    assert n_significant / N_CHECKS <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / N_CHECKS)
    assert n_significant > 0
    assert n_found <= n_significant


def brighter(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8)


def noisier(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 7, image.shape), 0, 255).astype(np.uint8)


def shifted(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.roll(image, 5, axis=1)


def blurred(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def framed(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return cv2.copyMakeBorder(image[4:-4, 4:-4], 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (brighter, "brightness"),
        (noisier, "noise"),
        (shifted, "centre_across"),
        (blurred, "sharpness"),
        (framed, "black_border"),
    ],
)
def test_other_images_are_found_by_what_changed(images, profile, look, labelled, some, change, statistic) -> None:
    rng = np.random.default_rng(0)
    new = look(np.stack([change(image, rng) for image in images[NEW]]))
    known = some(labelled, NEW)
    report = check(profile, replace(new, probability=known.probability, y_true=known.y_true))
    verdicts = {family.name: family.verdict for family in report.families}
    assert verdicts["pixels"] in ("warn", "refuse")
    assert {verdicts[name] for name in ("scores", "prevalence", "calibration")} == {"none"}
    found = {each.comparison.name for each in report.families[0].findings if each.verdict != "none"}
    assert statistic in found


def test_negatives_are_refused_by_pixels_and_features(images, profile, look) -> None:
    verdicts = {family.name: family.verdict for family in check(profile, look(255 - images[NEW])).families}
    assert (verdicts["pixels"], verdicts["features"]) == ("refuse", "refuse")


def test_images_of_one_grey_are_refused_and_do_no_harm(images, profile, look) -> None:
    report = check(profile, look(np.full_like(images[:40], 90)))
    assert report.verdict == "refuse"


def test_more_effusions_are_found_in_the_prevalence() -> None:
    def labels(prevalence: float, n: int, seed: int) -> Observed:
        drawn = (
            next(draw_patient(k, size=32, prevalence={"Effusion": prevalence}, seed=seed)) for k in range(1, n + 1)
        )
        true = np.array([["Effusion" in image.labels] for image in drawn], float)
        nothing = np.zeros((n, 11), np.float32)
        return Observed(nothing, nothing[:, :2], np.full((n, 1), 0.5), true, np.full(n, ""))

    profile = reference_profile(labels(0.3, 150, 1), labels(0.3, 40, 2), outputs=("ill",), seed=0)
    for prevalence, expected in ((0.3, "none"), (0.6, "warn"), (0.95, "refuse")):
        found = next(each for each in check(profile, labels(prevalence, 100, 3)).families if each.name == "prevalence")
        assert found.verdict == expected


def test_flipped_labels_are_refused_by_the_calibration(profile, labelled, some) -> None:
    new = some(labelled, NEW)
    assert check(profile, new).verdict == "none"
    report = check(profile, replace(new, y_true=1 - new.y_true))
    assert report.verdict == "refuse"
    assert report.sentence.startswith("Drift in calibration (ill, of single images")


def test_images_of_one_patient_taken_for_patients_of_their_own_cry_wolf(look, some) -> None:
    """Why one image a patient is drawn: copies of a few patients look like drift."""
    rng = np.random.default_rng(0)
    n_found = dict.fromkeys(("drawn", "all"), 0)
    images = np.stack(
        [image.pixels for k in range(1, 131) for image in draw_patient(k, size=48, prevalence={}, seed=8)]
    )
    patients = np.concatenate(
        [[k] * sum(1 for _ in draw_patient(k, size=48, prevalence={}, seed=8)) for k in range(1, 131)]
    )
    images, patients = images[np.repeat(np.arange(len(images)), 3)], np.repeat(patients, 3)
    seen = look(images)
    first = np.unique(patients, return_index=True)[1]
    for _ in range(40):
        dealt = rng.permutation(np.unique(patients))
        old, new = dealt[:65], dealt[65:]
        for name, allowed in (("drawn", first), ("all", np.arange(len(patients)))):
            parts = [some(seen, allowed[np.isin(patients[allowed], who)]) for who in (old, new)]
            profile = reference_profile(parts[0], parts[0], outputs=("ill",), seed=0)
            pixels = check(profile, parts[1], alpha=0.05, limits=NO_LIMITS).families[0]
            n_found[name] += pixels.verdict != "none"
    assert n_found["drawn"] <= 6
    assert n_found["all"] > 3 * max(n_found["drawn"], 2)
