import mlflow
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.tracking import artifacts
from cxr_pipeline.tracking.versions import ModelVersion

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")

IMAGES = pd.DataFrame(
    {"sha256": ["a", "b"], "split": ["train", "refused"], "label_ill": [1.0, None], "patient": ["1f", None]}
)
FEATURES = ImageFeatures(
    *(np.random.default_rng(0).random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, "")
)
PROFILE = ReferenceProfile.fit(FEATURES, FEATURES, outputs=("ill",), seed=0)


@pytest.fixture
def name(new_model):
    return new_model(0)


def register(name, run_id, **tags):
    version = mlflow.MlflowClient().create_model_version(name, source="s3://nothing/nothing", run_id=run_id, tags=tags)
    return int(version.version)


def log_and_register(name, key_file, images=IMAGES):
    with mlflow.start_run() as run:
        tags = artifacts.log_images(images, name=name, key_file=key_file)
    register(name, run.info.run_id, **tags)
    return tags


def test_a_profile_is_read_from_the_run_of_its_version(caplog, monkeypatch):
    def of_run(run_id):
        return ModelVersion("models:/cxr-t/1", "cxr-t", 1, run_id)

    with mlflow.start_run() as run:
        artifacts.log_profile(PROFILE)
    with mlflow.start_run() as other:
        pass
    version = of_run(run.info.run_id)
    stored = artifacts.stored_profile(version)
    np.testing.assert_array_equal(stored.training.statistics, PROFILE.training.statistics)
    assert [artifacts.stored_profile(of_run(run_id)) for run_id in (other.info.run_id, None, "0" * 32)] == [None] * 3
    assert artifacts.usable_profile(version) is not None
    assert not caplog.messages
    assert artifacts.usable_profile(of_run(None)) is None
    assert "The run of models:/cxr-t/1 stored no reference profile" in caplog.messages[0]
    monkeypatch.setattr("cxr_pipeline.deployment.drift.reference_profile.VERSION", 99)
    assert artifacts.usable_profile(version) is None
    assert "made by another version of this package" in caplog.messages[1]


def test_images_are_read_from_the_run_of_a_version(name, key_file):
    assert log_and_register(name, key_file)["n_images"] == "2"
    pd.testing.assert_frame_equal(artifacts.images_of_champion(name, 1), IMAGES, check_dtype=False)
    with mlflow.start_run() as bare:
        pass
    for run_id in (bare.info.run_id, None, "0" * 32):
        number = register(name, run_id)
        with pytest.raises(UserError, match=f"The run of {name} {number} has no list of its images"):
            artifacts.images_of_champion(name, number)


def test_the_fingerprint_of_a_version_recognises_its_key(name, key_file, tmp_path, caplog, monkeypatch):
    tags = log_and_register(name, key_file)
    assert tags == {"n_images": "2", "n_patients": "1", "patient_key": key_fingerprint(key_file, make=False)}
    assert key_file.read_text() not in str(tags)
    assert key_fingerprint(tmp_path / "other", make=True)
    hashed = {key: artifacts.hashed_with(name, 1, tmp_path / key) for key in ("key", "missing", "other")}
    assert hashed == {"key": True, "missing": False, "other": False}
    unknown = IMAGES.assign(patient=pd.Series([None, None], dtype="str"))
    assert log_and_register(name, key_file, unknown) == {"n_images": "2", "n_patients": "0"}
    assert not artifacts.hashed_with(name, 2, tmp_path / "missing")
    assert "differs from" not in caplog.text
    monkeypatch.setenv(VARIABLE, "another key, long enough")
    log_and_register(name, key_file)
    assert caplog.text.count(f"differs from that of {name} 1:") == 1


def test_artifacts_are_logged_to_an_active_run_only(store):
    before = list(store.rglob("*.npz"))
    artifacts.log_profile(PROFILE)
    artifacts.log_texts({"a.md": "text"}, "decisions")
    assert list(store.rglob("*.npz")) == before
    with mlflow.start_run() as run:
        artifacts.log_texts({"a.md": "text"}, "decisions")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/decisions/a.md") == "text"


def test_a_damaged_artifact_is_named():
    with mlflow.start_run() as run:
        artifacts.log_texts({"images.parquet": "PAR1"}, "lineage")
    with pytest.raises(UserError, match=rf"^The artifact lineage/images\.parquet .*{run.info.run_id} cannot"):
        artifacts.images_of_run(run.info.run_id)
