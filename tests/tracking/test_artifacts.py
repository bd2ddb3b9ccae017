import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.tracking import artifacts
from cxr_pipeline.tracking.artifacts import log_profile, stored_profile, usable_profile
from cxr_pipeline.tracking.versions import ModelVersion

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")

IMAGES = pd.DataFrame(
    {"sha256": ["a", "b"], "split": ["train", "refused"], "label_ill": [1.0, None], "patient": ["1f", None]}
)


FEATURES = ImageFeatures(
    *(np.random.default_rng(0).random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, "")
)
PROFILE = ReferenceProfile.fit(FEATURES, FEATURES, outputs=("ill",), seed=0)


def of_run(run_id: str | None) -> ModelVersion:
    return ModelVersion("models:/cxr-t/1", "cxr-t", 1, run_id)


def test_a_profile_is_read_from_the_run_of_its_version(caplog, monkeypatch) -> None:
    with mlflow.start_run() as run:
        log_profile(PROFILE)
    with mlflow.start_run() as other:
        pass
    version = of_run(run.info.run_id)
    stored = stored_profile(version)
    assert stored is not None
    np.testing.assert_array_equal(stored.training.statistics, PROFILE.training.statistics)
    assert [stored_profile(of_run(run_id)) for run_id in (other.info.run_id, None, "0" * 32)] == [None] * 3
    assert usable_profile(version) is not None
    assert not caplog.messages
    assert usable_profile(of_run(None)) is None
    assert "The run of models:/cxr-t/1 stored no reference profile" in caplog.messages[0]
    monkeypatch.setattr("cxr_pipeline.deployment.drift.reference_profile.VERSION", 99)
    assert usable_profile(version) is None
    assert "made by another version of this package" in caplog.messages[1]


def test_without_a_run_no_profile_is_logged(store: Path) -> None:
    before = list(store.rglob("*.npz"))
    log_profile(PROFILE)
    assert list(store.rglob("*.npz")) == before


def test_images_are_read_from_the_run_of_a_version(store, tmp_path) -> None:
    client = mlflow.MlflowClient()
    name = client.create_registered_model(f"cxr-images-{time.time_ns()}").name

    def version(run_id: str | None = None) -> int:
        return int(client.create_model_version(name, source="s3://nothing/nothing", run_id=run_id).version)

    with mlflow.start_run() as run:
        artifacts.log_images(IMAGES, name=name, key_file=tmp_path / "key")
    with mlflow.start_run() as bare:
        pass
    found = artifacts.images_of_champion(name, version(run.info.run_id))
    pd.testing.assert_frame_equal(found, IMAGES, check_dtype=False)
    for run_id in (bare.info.run_id, None, "0" * 32):
        number = version(run_id)
        with pytest.raises(UserError, match=f"The run of {name} {number} has no list of its images"):
            artifacts.images_of_champion(name, number)


def test_texts_are_logged_to_an_active_run_only() -> None:
    artifacts.log_texts({"a.md": "text"}, "decisions")
    with mlflow.start_run() as run:
        artifacts.log_texts({"a.md": "text"}, "decisions")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/decisions/a.md") == "text"
