import numpy as np
import pytest

from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.outliers import OutlierDetector
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)


def fit(training: ImageFeatures, validation: ImageFeatures) -> ReferenceProfile:
    return ReferenceProfile.fit(training, validation, outputs=("ill",), seed=0)


@pytest.fixture(scope="module")
def profile(phantoms: ImageFeatures) -> ReferenceProfile:
    return fit(phantoms.take(TRAIN), phantoms.take(VALIDATION))


def share(profile: ReferenceProfile, images: ImageFeatures, false_alarms: float) -> float:
    detector = OutlierDetector(profile, false_alarms=false_alarms, min_images=30)
    return float(detector.is_outlier(images.statistics, images.features).mean())


@pytest.mark.parametrize("false_alarms", [0.05, 0.2])
def test_the_rate_of_false_alarms_is_that_of_the_parameter(phantoms, false_alarms) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(30):
        order = rng.permutation(len(phantoms))
        training, validation, new = (phantoms.take(order[part]) for part in (TRAIN, VALIDATION, NEW))
        shares.append(share(fit(training, validation), new, false_alarms))
    assert 0.2 * false_alarms < np.mean(shares) <= false_alarms + 0.02


def test_noise_negatives_and_plain_grey_are_outliers(profile, images, extract) -> None:
    noise = np.random.default_rng(0).integers(0, 256, images[NEW].shape).astype(np.uint8)
    assert share(profile, extract(noise), 0.01) == 1
    assert share(profile, extract(255 - images[NEW]), 0.01) > 0.9
    assert share(profile, extract(np.full_like(images[NEW], 90)), 0.01) == 1


def test_pixels_and_features_each_detect_outliers_alone(profile, phantoms, simulate) -> None:
    own, far = phantoms.take(NEW), simulate(150, 1)
    detector = OutlierDetector(profile, false_alarms=0.01, min_images=30)
    assert detector.compared == ("pixels", "features")
    assert detector.is_outlier(own.statistics, own.features).mean() < 0.05
    assert detector.is_outlier(far.statistics, own.features).all()
    assert detector.is_outlier(own.statistics, own.features + 100).all()


def test_a_small_profile_makes_the_comparisons_that_it_can(phantoms) -> None:
    few = fit(phantoms.take(slice(0, 40)), phantoms.take(slice(40, 60)))
    new = phantoms.take(NEW)
    assert OutlierDetector(few, false_alarms=0.05, min_images=30).compared == ("pixels",)
    nothing = OutlierDetector(few, false_alarms=0.05, min_images=50)
    assert nothing.compared == ()
    assert not nothing.is_outlier(new.statistics, new.features + 100).any()


def test_an_image_whose_features_overflow_is_an_outlier(profile, phantoms) -> None:
    new = phantoms.take(slice(330, 333))
    features = new.features.copy()
    features[1, 0] = np.inf
    detector = OutlierDetector(profile, false_alarms=0.01, min_images=30)
    assert detector.is_outlier(new.statistics, features).tolist() == [False, True, False]


def test_a_rate_below_one_in_n_images_still_has_a_threshold(phantoms) -> None:
    few = fit(phantoms.take(TRAIN), phantoms.take(slice(200, 235)))
    new = phantoms.take(NEW)
    assert share(few, new, 0.0001) < 0.1
    detector = OutlierDetector(few, false_alarms=0.0001, min_images=30)
    assert detector.is_outlier(new.statistics * 50, new.features * 50).all()
