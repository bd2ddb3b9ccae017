"""The drift and profiling stages through Kedro's runner, on phantoms."""

import mlflow
import numpy as np
import pytest
from kedro.io import MemoryDataset
from phantom_patients import SIZE, SOURCE, write
from shipped import parameters_of
from stage_runs import run_stage
from stub_models import mlflow_file, register

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.config import (
    Augmentation,
    Drift,
    Evaluation,
    Folders,
    Resolution,
    Sources,
    Task,
    Training,
)
from cxr_pipeline.framework.datasets import FileDataset
from cxr_pipeline.pipelines.drift import create_pipeline
from cxr_pipeline.pipelines.ingestion import list_images
from cxr_pipeline.pipelines.profiling import create_pipeline as create_profiling
from cxr_pipeline.pipelines.resolution import resize_images

TASK = Task(name="effusion", title="E", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
SOURCES = Sources({"images": {**SOURCE, "path": "images"}})
DEFAULTS = parameters_of()["drift"]
BLOCKS = {"drift": Drift, "training": Training, "augmentation": Augmentation, "evaluation": Evaluation}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, classifier):
    """A project with two versions: the champion, and a newer one without a reference profile."""
    place = tmp_path_factory.mktemp("project")
    folders = Folders(**{name: place / name for name in Folders.model_fields})
    write(folders.raw / "images", range(1, 91))
    manifest, _, _ = list_images(SOURCES, folders, TASK)
    images, _ = resize_images(manifest, SOURCES, Resolution(size=SIZE, mode="fit", max_megapixels=1), folders)
    patients = manifest.patient_id.astype(int)
    split = np.select([patients <= 50, patients <= 85], ["train", "validation"], "test")
    inputs = {
        "model": classifier.model,
        "decision_rule": classifier.decision_rule.to_dict(),
        "enhanced_images": images,
        "manifest": manifest,
        "splits": manifest[["source", "image", "sha256", "patient_id"]].assign(split=split),
        **{f"params:{name}": block(**parameters_of()[name]) for name, block in BLOCKS.items()},
        "params:training": Training(**{**parameters_of()["training"], "folds": 1}),
    }
    profile = run_stage(create_profiling(), inputs, {"drift_profile": MemoryDataset()})["drift_profile"]
    version = (classifier.model, classifier.decision_rule, classifier.recipe)
    with mlflow_file(place):
        register(*version, profile=profile)
        register(*version)
        mlflow.MlflowClient().set_registered_model_alias("cxr-effusion", "champion", "1")
        yield folders


def run(folders, tmp_path, **drift):
    """Run the stage with its outputs in files."""
    inputs = {
        "params:task": TASK,
        "params:sources": Sources({"images": {**SOURCE, "path": "gone"}}),
        "params:drift": Drift(**{**DEFAULTS, **drift}),
        "params:folders": folders,
    }
    outputs = {
        "drift_report": FileDataset(filepath=str(tmp_path / "drift_report.json")),
        "drift_page": FileDataset(filepath=str(tmp_path / "drift.html")),
    }
    results = run_stage(create_pipeline(), inputs, outputs)
    return results["drift_report"], results["drift_page"]


def test_images_of_the_same_kind_do_not_drift_from_the_champion(folders, tmp_path):
    new = write(tmp_path / "new", range(301, 391))
    report, page = run(folders, tmp_path, source={**SOURCE, "path": str(new)})
    assert (report["model"]["version"], report["model"]["name"]) == (1, "cxr-effusion")
    assert report["reference"] == {"training_images": 50, "validation_images": 35}
    assert report["verdict"] == "none", report["sentence"]
    assert "unknown" not in {family["verdict"] for family in report["families"]}
    assert (report["new_images"]["drawn"], report["n_new"]) == (90, 90)
    assert "No drift was found" in page


def test_a_version_needs_a_profile(folders, tmp_path):
    with pytest.raises(UserError, match=r"stored no reference profile.*kedro run --pipeline=effusion"):
        run(folders, tmp_path, folder=str(folders.raw / "images"), model="models:/cxr-effusion/2")
    assert not (tmp_path / "drift_report.json").exists()
