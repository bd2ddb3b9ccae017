from dataclasses import replace

import numpy as np
import pytest

from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.outliers import ImageLikeness
from cxr_pipeline.deployment.drift.profile import Profile, reference_profile

TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)


@pytest.fixture(scope="module")
def profile(seen: Observed, some) -> Profile:
    return reference_profile(some(seen, TRAIN), some(seen, VALIDATION), outputs=("ill",), seed=0)


def share(profile: Profile, images: Observed, **settings) -> float:
    likeness = ImageLikeness(profile, **{"false_alarms": 0.05, "min_images": 30, **settings})
    return float(likeness.unlike(images.statistics, images.features).mean())


@pytest.mark.parametrize("false_alarms", [0.05, 0.2])
def test_images_of_the_same_kind_are_unlike_no_more_often_than_is_allowed(seen, some, false_alarms) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        dealt = rng.permutation(len(seen))
        own = [some(seen, dealt[part]) for part in (TRAIN, VALIDATION)]
        profile = reference_profile(*own, outputs=("ill",), seed=0)
        found.append(share(profile, some(seen, dealt[NEW]), false_alarms=false_alarms))
    assert 0.2 * false_alarms < np.mean(found) <= false_alarms + 0.02


def test_what_is_no_chest_image_is_unlike(profile, images, look) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, images[NEW].shape).astype(np.uint8)
    assert share(profile, look(noise), false_alarms=0.01) == 1
    assert share(profile, look(255 - images[NEW]), false_alarms=0.01) > 0.9
    assert share(profile, look(np.full_like(images[NEW], 90)), false_alarms=0.01) == 1


def test_pixels_and_features_each_tell_alone(profile, seen, some, made_up) -> None:
    own, far = some(seen, NEW), made_up(150, 1, d=seen.features.shape[1])
    likeness = ImageLikeness(profile, false_alarms=0.01, min_images=30)
    assert likeness.compared == ("pixels", "features")
    assert likeness.unlike(own.statistics, own.features).mean() < 0.05
    assert likeness.unlike(far.statistics, own.features).all()
    assert likeness.unlike(own.statistics, own.features + 100).all()


def test_a_profile_of_few_images_compares_what_it_can(seen, some) -> None:
    few = reference_profile(some(seen, slice(0, 40)), some(seen, slice(40, 60)), outputs=("ill",), seed=0)
    new = some(seen, NEW)
    assert ImageLikeness(few, false_alarms=0.05, min_images=30).compared == ("pixels",)
    nothing = ImageLikeness(few, false_alarms=0.05, min_images=50)
    assert nothing.compared == ()
    assert not nothing.unlike(new.statistics, new.features + 100).any()


def test_a_image_whose_features_overflow_is_unlike(profile, seen, some) -> None:
    new = some(seen, slice(330, 333))
    features = new.features.copy()
    features[1, 0] = np.inf
    likeness = ImageLikeness(profile, false_alarms=0.01, min_images=30)
    assert likeness.unlike(new.statistics, features).tolist() == [False, True, False]


def test_fewer_images_than_the_rate_asks_for_still_have_a_threshold(seen, some) -> None:
    few = reference_profile(some(seen, TRAIN), some(seen, slice(200, 235)), outputs=("ill",), seed=0)
    new = some(seen, NEW)
    assert share(few, new, false_alarms=0.0001) < 0.1
    strange = replace(new, statistics=new.statistics * 50, features=new.features * 50)
    assert share(few, strange, false_alarms=0.0001) == 1
