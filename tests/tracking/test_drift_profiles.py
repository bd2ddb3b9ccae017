from pathlib import Path

import mlflow
import numpy as np
import pytest

from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.tracking.drift_profiles import log_profile, stored_profile, usable_profile
from cxr_pipeline.tracking.versions import ModelVersion

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")


def profile():
    rng = np.random.default_rng(0)
    images = ImageFeatures(*(rng.random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, ""))
    return ReferenceProfile.fit(images, images, outputs=("ill",), seed=0)


def of_run(run_id: str | None) -> ModelVersion:
    return ModelVersion("models:/cxr-t/1", "cxr-t", 1, run_id)


def test_a_profile_is_read_from_the_run_of_its_version(store) -> None:
    with mlflow.start_run() as run:
        log_profile(profile())
    with mlflow.start_run() as other:
        pass
    found = stored_profile(of_run(run.info.run_id))
    assert found is not None
    np.testing.assert_array_equal(found.training.statistics, profile().training.statistics)
    assert stored_profile(of_run(other.info.run_id)) is None
    assert stored_profile(of_run(None)) is None
    assert stored_profile(of_run("0" * 32)) is None


def test_an_unusable_profile_is_logged(store, caplog, monkeypatch) -> None:
    with mlflow.start_run() as run:
        log_profile(profile())
    assert usable_profile(of_run(run.info.run_id)) is not None
    assert not caplog.messages
    assert usable_profile(of_run(None)) is None
    assert "The run of models:/cxr-t/1 stored no reference profile" in caplog.messages[0]
    monkeypatch.setattr("cxr_pipeline.deployment.drift.reference_profile.VERSION", 99)
    assert usable_profile(of_run(run.info.run_id)) is None
    assert "made by another version of this package" in caplog.messages[1]


def test_without_a_run_nothing_is_logged(store: Path) -> None:
    before = list(store.rglob("*.npz"))
    log_profile(profile())
    assert list(store.rglob("*.npz")) == before
    assert mlflow.active_run() is None
