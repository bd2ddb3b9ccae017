import hashlib

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import ImageStore, PreparedImages
from cxr_pipeline.deployment.drift.pixel_statistics import image_statistics
from cxr_pipeline.deployment.drift.reference import look_at_prepared, profile_of

SETTINGS = {"max_images": 100, "batch_size": 16, "seed": 0}


class Reader:
    """Images by their place."""

    def __init__(self, images) -> None:
        self.images = images

    def read(self, path: str) -> bytes:
        return cv2.imencode(".png", self.images[int(path)])[1].tobytes()

    def n_bytes(self, path: str) -> int:
        return 0


@pytest.fixture(scope="module")
def data(images, tmp_path_factory):
    """60 images of 30 patients: 20 of training, 6 of validation, 4 of test."""
    reader = Reader(images)
    sha256s = [hashlib.sha256(reader.read(str(place))).hexdigest() for place in range(60)]
    prepared = PreparedImages(tmp_path_factory.mktemp("images"), Recipe(size=48, mode="fit", max_megapixels=1))
    ImageStore(prepared.folder, prepared.recipe).fill(
        {sha256: (reader, str(place)) for place, sha256 in enumerate(sha256s)}
    )
    patients = np.arange(60) // 2
    manifest = pd.DataFrame(
        {
            "source": "s",
            "image": [f"{place}.png" for place in range(60)],
            "sha256": sha256s,
            "patient_id": pd.Series(patients.astype(str), dtype="str"),
            "label_ill": (patients % 3 == 0).astype(float),
        }
    )
    splits = manifest[["source", "image", "sha256", "patient_id"]].assign(
        split=np.select([patients < 20, patients < 26], ["train", "validation"], "test")
    )
    return prepared, manifest, splits


def test_pixels_are_of_training_images_and_scores_of_validation_images(network, rule, images, data) -> None:
    prepared, manifest, splits = data
    profile = profile_of(network, rule, prepared, manifest, splits, **SETTINGS)
    assert (len(profile.statistics), len(profile.probability), len(profile.features)) == (20, 6, 6)
    of_training = image_statistics(images[:40])[:, 0]
    assert set(profile.statistics[:, 0].tolist()) <= set(of_training.tolist())
    scores = network.predict(images[40:52, ..., np.newaxis], verbose=0)[:, 0]
    nearest = np.abs(profile.probability[:, :1] - scores[np.newaxis]).min(axis=1)
    assert (nearest < 1e-6).all()
    assert sorted(profile.labels[:, 0]) == [0] * 13 + [1] * 7
    assert profile.sources == ("s",)
    assert sorted(profile.y_true[:, 0]) == [0, 0, 0, 0, 1, 1]


def test_each_patient_is_looked_at_once(network, rule, images, data) -> None:
    prepared, manifest, _ = data
    seen = look_at_prepared(network, rule, prepared, manifest, **SETTINGS)
    grey = image_statistics(images[:60])[:, 0]
    patients = [int(np.abs(grey - value).argmin()) // 2 for value in seen.statistics[:, 0]]
    assert sorted(patients) == list(range(30))
    assert seen.y_true[:, 0].tolist() == [float(patient % 3 == 0) for patient in patients]
    unknown = look_at_prepared(network, rule, prepared, manifest.assign(patient_id=None), **SETTINGS)
    assert len(unknown) == 60
    few = look_at_prepared(network, rule, prepared, manifest, **{**SETTINGS, "max_images": 7})
    assert len(few) == 7


def test_a_image_that_is_not_prepared_is_named(network, rule, data) -> None:
    prepared, manifest, splits = data
    with pytest.raises(UserError, match="not among the prepared images"):
        profile_of(network, rule, prepared, manifest.assign(sha256="0" * 64), splits, **SETTINGS)
