import hashlib
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.deployment.drift import reference_profile
from cxr_pipeline.deployment.drift.image_features import ImageFeatures, image_statistics
from cxr_pipeline.deployment.drift.reference_profile import COMPONENTS, ReferenceProfile, build_reference_profile

fit = partial(ReferenceProfile.fit, outputs=("ill",), seed=0)


def images_with(features):
    """Return images with these features; everything else is zero."""
    n = len(features)
    zeros = np.zeros((n, 11), np.float32)
    return ImageFeatures(zeros, features.astype(np.float32), zeros[:, :1], zeros[:, :1], np.full(n, ""))


def rows_of(images):
    return np.column_stack([images.source, images.y_true, images.statistics, images.probability])


@pytest.fixture
def two_sources(simulate, concatenate):
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
def test_a_profile_may_have_few_images_but_not_none(simulate, n_images):
    profile = fit(simulate(n_images, 0), simulate(0, 1))
    assert np.isfinite(profile.project(simulate(4, 2).features)).all()
    with pytest.raises(UserError, match="needs training images; found none"):
        fit(simulate(0, 0), simulate(n_images, 1))


def test_constant_features_have_no_weight(simulate):
    training = simulate(30, 0)
    training.features[:, 2] = 4
    profile = fit(training, simulate(30, 1))
    moved = simulate(5, 2).features
    moved[:, 2] = 1e6
    same = moved.copy()
    same[:, 2] = 4
    np.testing.assert_allclose(profile.project(moved), profile.project(same))


class Reader:
    """Read an array of images as PNG files named by their index."""

    def __init__(self, images):
        self.images = images

    def read(self, path):
        return cv2.imencode(".png", self.images[int(path)])[1].tobytes()

    def version(self, path):
        return None


@pytest.fixture(scope="module")
def data(images, tmp_path_factory):
    """60 images of 30 patients: 20 for training, 6 for validation, 4 for testing."""
    reader = Reader(images)
    sha256s = [hashlib.sha256(reader.read(str(number))).hexdigest() for number in range(60)]
    prepared = PreparedImages(tmp_path_factory.mktemp("images"), Recipe(size=48, mode="fit", max_megapixels=1))
    contents = {sha256: (reader, str(number)) for number, sha256 in enumerate(sha256s)}
    prepared.fill(contents)
    patients = np.arange(60) // 2
    manifest = pd.DataFrame(
        {
            "source": "s",
            "image": [f"{number}.png" for number in range(60)],
            "sha256": sha256s,
            "patient_id": pd.Series(patients.astype(str), dtype="str"),
            "label_ill": (patients % 3 == 0).astype(float),
        }
    )
    splits = manifest[["source", "image", "sha256", "patient_id"]].assign(
        split=np.select([patients < 20, patients < 26], ["train", "validation"], "test")
    )
    return prepared, manifest, splits


def test_a_profile_has_one_image_of_each_training_and_validation_patient(network, rule, images, data):
    profile = build_reference_profile(network, rule, *data, max_images=100, batch_size=16, seed=0)
    assert (len(profile.training), len(profile.held_out)) == (20, 6)
    grey = image_statistics(images[:40])[:, 0]
    patients = [int(np.abs(grey - value).argmin()) // 2 for value in profile.training.statistics[:, 0]]
    assert sorted(patients) == list(range(20)) != patients, "the order is random"
    assert profile.training.y_true[:, 0].tolist() == [float(patient % 3 == 0) for patient in patients]
    scores = network.predict(images[40:52, ..., np.newaxis], verbose=0)[:, 0]
    assert (np.abs(profile.held_out.probability[:, :1] - scores[np.newaxis]).min(axis=1) < 1e-6).all()
    assert set(profile.training.source) == {"s"}
    assert sorted(profile.held_out.y_true[:, 0]) == [0, 0, 0, 0, 1, 1]
