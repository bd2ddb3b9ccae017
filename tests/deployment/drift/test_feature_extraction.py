import hashlib

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.deployment.drift.feature_extraction import build_reference_profile, extract_features
from cxr_pipeline.deployment.drift.image_features import image_statistics
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.training.networks.heads import POOLED


def test_features_are_those_of_the_network_with_calibrated_probabilities(network, images) -> None:
    raw = network.predict(images[:60, ..., np.newaxis], verbose=0)
    labels = (raw > np.median(raw)).astype(float)
    labels[:6] = 1 - labels[:6]
    platt = fit_decision_rule(
        labels, raw, kind="binary", classes=("a", "b"), calibration="platt", policy={"rule": "youden"}
    )
    features = extract_features(network, platt, (images[:20], images[20:60]))
    pooled = keras.Model(network.inputs, network.get_layer(POOLED).output)
    np.testing.assert_allclose(features.features, pooled.predict(images[:60, ..., np.newaxis], verbose=0), atol=1e-5)
    np.testing.assert_allclose(features.probability, platt.apply(raw.astype(float)).probability, atol=1e-6)
    assert not np.allclose(features.probability, raw, atol=1e-2)
    np.testing.assert_array_equal(features.statistics, image_statistics(images[:60]))
    assert np.isnan(features.y_true).all()


def test_no_images_give_empty_arrays_and_nan_scores_raise(network, rule, images) -> None:
    features = extract_features(network, rule, [])
    assert (len(features), features.features.shape, features.probability.shape) == (0, (0, 24), (0, 1))
    broken = keras.models.clone_model(network)
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    with pytest.raises(UserError, match="NaN"):
        extract_features(broken, rule, [images[:4]])


class Reader:
    """Read an array of images as PNG files named by their index."""

    def __init__(self, images) -> None:
        self.images = images

    def read(self, path: str) -> bytes:
        return cv2.imencode(".png", self.images[int(path)])[1].tobytes()

    def version(self, path: str) -> None:
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


def test_a_profile_has_one_image_of_each_training_and_validation_patient(network, rule, images, data) -> None:
    profile = build_reference_profile(network, rule, *data, max_images=100, batch_size=16, seed=0)
    assert (len(profile.training), len(profile.held_out)) == (20, 6)
    grey = image_statistics(images[:40])[:, 0]
    patients = [int(np.abs(grey - value).argmin()) // 2 for value in profile.training.statistics[:, 0]]
    assert sorted(patients) == list(range(20))
    assert profile.training.y_true[:, 0].tolist() == [float(patient % 3 == 0) for patient in patients]
    scores = network.predict(images[40:52, ..., np.newaxis], verbose=0)[:, 0]
    assert (np.abs(profile.held_out.probability[:, :1] - scores[np.newaxis]).min(axis=1) < 1e-6).all()
    assert set(profile.training.source) == {"s"}
    assert sorted(profile.held_out.y_true[:, 0]) == [0, 0, 0, 0, 1, 1]
