from functools import partial

import numpy as np
import pytest
from phantom_patients import concatenate, simulate

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift import reference_profile
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import COMPONENTS, ReferenceProfile

fit = partial(ReferenceProfile.fit, outputs=("ill",), seed=0)


def images_with(features):
    """Return images with these features; everything else is zero."""
    n = len(features)
    zeros = np.zeros((n, 11), np.float32)
    return ImageFeatures(zeros, features.astype(np.float32), zeros[:, :1], zeros[:, :1], np.full(n, ""))


def rows_of(images):
    return np.column_stack([images.source, images.y_true, images.statistics, images.probability])


@pytest.fixture
def two_sources():
    """300 training images of ``a`` and 100 of ``b``; 60 and 40 validation images."""
    return fit(
        concatenate(simulate(300, 0, source="a"), simulate(100, 1, source="b")),
        concatenate(simulate(60, 2, source="a"), simulate(40, 3, source="b")),
    )


def test_the_file_preserves_the_profile_without_pickle_and_names_its_format(two_sources, tmp_path, monkeypatch):
    two_sources.save(tmp_path / "profile.npz")
    loaded = ReferenceProfile.load(tmp_path / "profile.npz")
    assert loaded.outputs == ("ill",)
    for name, array in two_sources.to_arrays().items():
        np.testing.assert_array_equal(loaded.to_arrays()[name], array)
        assert array.dtype != object
    monkeypatch.setattr(reference_profile, "VERSION", 99)
    with pytest.raises(UserError, match="has format 3; expected 99"):
        ReferenceProfile.load(tmp_path / "profile.npz")


@pytest.mark.parametrize(
    ("new", "training", "held_out"),
    [
        ({"b": 7}, (0, 100), (0, 40)),
        ({"a": 7}, (300, 0), (60, 0)),
        ({"a": 50, "b": 50}, (100, 100), (40, 40)),
        ({"a": 90, "b": 10}, (300, 33), (60, 6)),
    ],
)
def test_the_largest_subset_with_the_shares_of_the_new_images(two_sources, new, training, held_out):
    matched = two_sources.match_sources(np.repeat(list(new), list(new.values())), min_images=30, seed=0)
    for side, counts in (("training", training), ("held_out", held_out)):
        subset, images = ({tuple(row) for row in rows_of(getattr(each, side))} for each in (matched, two_sources))
        assert tuple(np.sum(getattr(matched, side).source == name) for name in "ab") == counts
        assert len(subset) == sum(counts)
        assert subset <= images


def test_an_unknown_source_or_a_subset_too_small_for_a_test_keeps_all_images(two_sources):
    for new in ([], [""], ["b", ""], ["b", "c"]):
        assert two_sources.match_sources(np.array(new, np.str_), min_images=1, seed=0) is two_sources
    matched = two_sources.match_sources(np.array(["b"]), min_images=41, seed=0)
    assert (len(matched.training), len(matched.held_out)) == (100, 100)


def test_projected_training_features_have_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(500, 30)) @ rng.normal(size=(30, 30)) + 7
    mixed[:, 3] = 5
    training = images_with(mixed)
    along = fit(training, training).project(training.features)[:, :-1]
    assert along.shape == (500, COMPONENTS)
    np.testing.assert_allclose(along.std(axis=0), 1, atol=0.01)
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=1e-3)


def test_the_residual_shows_what_the_directions_do_not_explain():
    rng = np.random.default_rng(0)
    flat = np.hstack([rng.normal(size=(200, 5)), 0.01 * rng.normal(size=(200, 35))]).astype(np.float32)
    profile = fit(images_with(flat), images_with(flat))
    changed = flat.copy()
    changed[:, 20:] += 0.3 * rng.normal(size=(200, 20)).astype(np.float32)
    assert np.median(profile.project(changed)[:, -1]) > np.median(profile.project(flat)[:, -1]) + 1


@pytest.mark.parametrize("n_images", [1, 2, 5])
def test_a_profile_may_have_few_images_but_not_none(n_images):
    profile = fit(simulate(n_images, 0), simulate(0, 1))
    assert np.isfinite(profile.project(simulate(4, 2).features)).all()
    with pytest.raises(UserError, match="needs training images; found none"):
        fit(simulate(0, 0), simulate(n_images, 1))


def test_constant_features_have_no_weight():
    training = simulate(30, 0)
    training.features[:, 2] = 4
    profile = fit(training, simulate(30, 1))
    moved = simulate(5, 2).features
    moved[:, 2] = 1e6
    same = moved.copy()
    same[:, 2] = 4
    np.testing.assert_allclose(profile.project(moved), profile.project(same))
