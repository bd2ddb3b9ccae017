import logging
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.tracking import artifacts, model_index

IMAGES = pd.DataFrame(
    {"sha256": ["a", "b"], "split": ["train", "test"], "source": "nih", "patient": pd.Series(["1f", None], dtype="str")}
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    assert key_fingerprint(tmp_path / "key", make=True)
    return tmp_path / "key"


def register(name: str, key_file: Path, images: pd.DataFrame = IMAGES) -> tuple[str, dict[str, str]]:
    """Register a version whose run logged its images; return the id of the run, and the tags."""
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        tags = artifacts.log_images(images, name=name, key_file=key_file)
        mlflow.log_metrics({"test/auc": 0.75, "epoch/loss": 1.0})
        mlflow.log_param("training.epochs", 3)
    if not client.search_registered_models(filter_string=f"name='{name}'"):
        client.create_registered_model(name)
    client.create_model_version(name, source="/nothing", run_id=run.info.run_id, tags=tags)
    return run.info.run_id, tags


def test_versions_are_listed_newest_first_with_their_runs(store: Path, key_file: Path) -> None:
    uri = f"sqlite:///{store}/mlflow.db"
    with pytest.raises(UserError, match="Train one first: kedro run --env demo --pipeline=effusion"):
        model_index.versions_of("cxr-effusion-demo", uri)
    runs = [register("cxr-many", key_file)[0] for _ in range(2)]
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("cxr-many", "champion", "1")
    client.delete_run(runs[1])
    client.create_model_version("cxr-many", source="/nothing")
    third, second, first = model_index.versions_of("cxr-many", uri)
    assert [(one.number, one.aliases) for one in (third, second, first)] == [(3, ()), (2, ()), (1, ("champion",))]
    assert (first.run_id, first.metrics, first.parameters) == (runs[0], {"auc": 0.75}, {"training.epochs": "3"})
    assert (third.run_id, third.metrics) == (None, {})
    assert model_index.settings_of(first) == {}, "The version has no model."


def test_the_fingerprint_of_a_version_recognises_its_key(key_file: Path, tmp_path: Path) -> None:
    _, tags = register("cxr-keyed", key_file)
    assert tags == {"n_images": "2", "n_patients": "1", "patient_key": key_fingerprint(key_file, make=False)}
    assert key_file.read_text() not in str(tags)
    assert key_fingerprint(tmp_path / "other", make=True)
    assert [artifacts.hashed_with("cxr-keyed", 1, tmp_path / name) for name in ("key", "missing", "other")] == [
        True, False, False,
    ]  # fmt: skip
    _, tags = register("cxr-keyed", key_file, IMAGES.assign(patient=pd.Series([None, None], dtype="str")))
    assert tags == {"n_images": "2", "n_patients": "0"}
    assert not artifacts.hashed_with("cxr-keyed", 2, tmp_path / "missing")


def test_a_replaced_key_is_warned_about(key_file, caplog, monkeypatch) -> None:
    with caplog.at_level(logging.WARNING):
        register("cxr-changed", key_file)
        register("cxr-changed", key_file)
        assert not caplog.records
        monkeypatch.setenv(VARIABLE, "another key, long enough")
        register("cxr-changed", key_file)
    (record,) = caplog.records
    assert "differs from that of cxr-changed 1, 2:" in record.getMessage()
