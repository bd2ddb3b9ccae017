"""The comparison stage through Kedro's runner, from MLflow to the page."""

from pathlib import Path

import mlflow
import pytest
import yaml
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner
from stub_models import mlflow_file

from cxr_pipeline.framework import hooks
from cxr_pipeline.pipelines.comparison import create_pipeline
from cxr_pipeline.tracking import runs

METRICS = {
    "task": "effusion",
    "split": "test",
    "phantom": False,
    "images_digest": "f" * 64,
    "n_images": 40,
    "n_patients": None,
    "prevalence": 0.25,
    "thresholds": {"effusion": 0.375},
    "metrics": {"auc": {"value": 0.875, "low": 0.75, "high": 0.9375}},
}


@pytest.fixture
def store(tmp_path):
    with mlflow_file(tmp_path):
        yield tmp_path


@pytest.fixture
def catalog(tmp_path):
    """The datasets as they are configured, in a folder of the test."""
    configured = Path(__file__).parents[2] / "conf" / "base" / "catalog" / "08_comparison.yml"
    text = configured.read_text().replace("${globals:data}", str(tmp_path))
    return DataCatalog.from_config(yaml.safe_load(text))


def log(name, auc, parent=None, **changed):
    """Log a run as the pipeline of a task does."""
    measured = METRICS | {"metrics": {"auc": {"value": auc, "low": auc - 0.125, "high": auc + 0.0625}}} | changed
    with mlflow.start_run(run_name=name, tags={"mlflow.parentRunId": parent} if parent else {}) as run:
        runs.log_summary(measured, data_digest="d" * 64)
        mlflow.log_param("model.name", name)
    return run.info.run_id


def test_versions_and_cells_with_the_same_test_images_are_ranked(store, catalog, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    client = mlflow.MlflowClient()
    mlflow.set_experiment("cxr-effusion")
    run, parent = log("effusion", 0.75), log("effusion_ablation", 0.0)
    log("vgg16", 0.875, parent)
    log("other images", 0.875, parent, images_digest="0" * 64)
    mlflow.set_experiment("cxr-effusion-demo")
    log("drawn", 0.875, parent, phantom=True)
    client.create_registered_model("cxr-effusion")
    tags = {"task": "effusion", "images": "real", "test_digest": "f" * 64}
    for known in (tags, {"task": "effusion", "images": "real"}):
        client.create_model_version("cxr-effusion", source=str(store), run_id=run, tags=known)
    client.set_registered_model_alias("cxr-effusion", "champion", "1")

    SequentialRunner().run(create_pipeline(), catalog)

    table, page = catalog.load("leaderboard"), catalog.load("leaderboard_page")
    names = ["vgg16", "cxr-effusion 1", "other images", "drawn", "cxr-effusion 2"]
    assert [name.removeprefix("effusion_ablation: ") for name in table["name"]] == names
    assert table["group"].tolist()[:4] == [1, 1, 2, 3]
    assert table["rank"].tolist()[:4] == [1, 2, 1, 1]
    assert table["aliases"].iloc[1] == "champion"
    assert "test images are unknown" in table["not_ranked"].iloc[4]
    for text in (*names, "champion", run, "PHANTOM IMAGES", "model.name: vgg16", "kedro mlflow ui"):
        assert text in page

    hooks.Summary().after_pipeline_run(create_pipeline(), catalog)
    printed = capsys.readouterr().out
    assert "effusion, 40 test images: effusion_ablation: vgg16 (first of 2), AUC 0.875 (0.750 to 0.938)" in printed
    assert "effusion, 40 phantom test images: effusion_ablation: drawn" in printed
    assert str(tmp_path / "08_reporting" / "leaderboard.html") in printed
