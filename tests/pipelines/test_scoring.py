"""The scoring stage through Kedro's runner, with registered networks whose scores are known."""

from datetime import datetime

import cv2
import numpy as np
import pandas as pd
import pytest
from phantom_patients import write
from shipped import parameters_of
from stage_runs import run_stage
from stub_models import fixed_rule, grey_network, mlflow_file, register

import cxr_pipeline
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.framework.config import Drift, Scoring, Sources, Task
from cxr_pipeline.framework.datasets import FileDataset, TableDataset
from cxr_pipeline.pipelines.scoring import create_pipeline

SIZE = 16
RECIPE = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
HOSTILE = 'ward/a,"b"\n0.9,effusion,scored,.png'
PHANTOMS = Sources({"drawn": {"layout": "phantoms", "path": "p", "n_patients": 3, "prevalence": {"Effusion": 0.5}}})
IMAGES = Sources({"images": {"layout": "class_folders", "path": "images"}})
PROFILED = Task(name="profiled", title="P", kind="binary", classes={"well": ("well",), "ill": ("ill",)})


def task(positive="effusion"):
    classes = {"nofinding": ("No Finding",), positive: (positive,)}
    return Task(name="effusion", title="Pleural effusion", kind="binary", classes=classes)


@pytest.fixture(scope="module", autouse=True)
def versions(tmp_path_factory, classifier, profile):
    """Two versions of a task, one trained on phantoms, and one of another task with a reference profile."""
    profiled = (classifier.model, classifier.decision_rule, classifier.recipe)
    with mlflow_file(tmp_path_factory.mktemp("store")):
        yield [
            register(grey_network(SIZE, 0.5), fixed_rule(), RECIPE),
            register(grey_network(SIZE), fixed_rule(), RECIPE),
            register(grey_network(SIZE, 0.25), fixed_rule(), RECIPE, phantom=True),
            register(*profiled, task="profiled", profile=profile),
        ]


@pytest.fixture
def folder(tmp_path):
    """An image with a mean grey of 204, a text file, and the same image under a hostile name."""
    new = tmp_path / "new"
    (new / "ward").mkdir(parents=True)
    content = cv2.imencode(".png", np.tile(np.repeat(np.uint8([194, 214]), 32), (64, 1)))[1].tobytes()
    (new / "image.png").write_bytes(content)
    (new / "notes.png").write_text("no image")
    (new / HOSTILE).write_bytes(content)
    return new


def run(folders, folder, *, sources=IMAGES, of=None, **changes):
    """Run the stage with its outputs in files."""
    options = {"model": None, "batch_size": 2, "heatmaps": False, "parquet": False, **changes}
    record = folders.outputs.parent / "predictions.json"
    inputs = {
        "params:task": of or task(),
        "params:sources": sources,
        "params:scoring": Scoring(folder=folder and str(folder), **options),
        "params:drift": Drift(**parameters_of()["drift"]),
        "params:folders": folders,
    }
    text_columns = ["image", "decision", "status", "reason"]
    outputs = {
        "predictions": TableDataset(filepath=str(record.with_suffix(".csv")), text_columns=text_columns),
        "scoring_record": FileDataset(filepath=str(record)),
    }
    results = run_stage(create_pipeline(), inputs, outputs)
    return results["predictions"], results["scoring_record"]


def test_the_newest_version_scores_images(folders, folder, versions, caplog):
    caplog.set_level("INFO", logger="cxr_pipeline")
    predictions, record = run(folders, folder)
    assert "models:/cxr-effusion/2: the newest version" in caplog.text
    assert predictions.columns.tolist() == ["image", "probability", "decision", "status", "reason"]
    assert predictions.image.tolist() == ["image.png", "notes.png", HOSTILE]
    np.testing.assert_allclose(predictions.probability, [0.8, np.nan, 0.8], atol=1e-6)
    assert predictions.decision.fillna("").tolist() == ["effusion", "", "effusion"]
    assert predictions.status.tolist() == ["scored", "refused", "scored"]
    assert predictions.reason.fillna("").tolist() == ["", "unreadable", ""]
    expected = {name: versions[1][name] for name in ("uri", "name", "version", "run_id", "digest")}
    expected |= {"folder": str(folder), "n_images": 3, "n_scored": 2, "refused": {"unreadable": 1}}
    assert record.items() >= {**expected, "code": cxr_pipeline.__version__}.items()
    assert datetime.fromisoformat(record["started"]) <= datetime.fromisoformat(record["ended"])


def test_heat_maps_and_parquet_are_written_only_on_request(folders, folder):
    predictions, _ = run(folders, folder, heatmaps=True, parquet=True)
    outputs = folders.outputs / "effusion"
    maps = {str(path.relative_to(outputs / "heatmaps")) for path in outputs.glob("heatmaps/**/*") if path.is_file()}
    assert maps == {"image.png.png", f"{HOSTILE}.png"}
    pd.testing.assert_frame_equal(pd.read_parquet(outputs / "predictions.parquet"), predictions, check_dtype=False)
    run(folders, folder)
    assert [path.name for path in outputs.iterdir()] == ["predictions.parts"]


def test_a_task_on_phantoms_uses_a_model_of_phantoms(folders, folder, caplog):
    predictions, record = run(folders, folder, sources=PHANTOMS)
    assert (record["uri"], record["provenance"]["images"]) == ("models:/cxr-effusion-demo/1", "phantom")
    np.testing.assert_allclose(predictions.probability[0], 0.2, atol=1e-6)
    assert "The model was trained on phantoms" in caplog.text


def test_the_version_that_the_parameters_name_scores_images(folders, folder):
    predictions, record = run(folders, folder, model="models:/cxr-effusion/1")
    assert (record["uri"], record["chosen"]) == ("models:/cxr-effusion/1", "chosen by its URI")
    np.testing.assert_allclose(predictions.probability[0], 0.4, atol=1e-6)


def test_images_of_the_training_distribution_do_not_drift(folders, tmp_path):
    predictions, record = run(folders, write(tmp_path / "new", range(301, 351)), of=PROFILED)
    assert record["out_of_distribution"] == {"action": "flag", "false_alarms": 0.01, "compared": ["pixels", "features"]}
    drift = record["drift"]
    assert (drift["verdict"], drift["on_drift"], drift["n_images"]) == ("none", "warn", 50)
    assert drift["families"] == {
        **dict.fromkeys(("pixels", "features", "scores"), "none"),
        **dict.fromkeys(("prevalence", "calibration"), "unknown"),
    }
    assert predictions.reason.notna().sum() == record["flagged"].get("out_of_distribution", 0) <= 3


def test_drift_is_logged_or_refused(folders, tmp_path, caplog):
    outputs = folders.outputs / "profiled"
    outputs.mkdir(parents=True)
    for suffix in ("csv", "json", "parquet"):
        (outputs / f"predictions.{suffix}").write_text("of an earlier folder")
    new = write(tmp_path / "new", range(301, 351), brighter=120)
    with pytest.raises(UserError, match=r"Drift in pixels.*profiled\.scoring\.on_drift=warn"):
        run(folders, new, of=PROFILED, on_drift="refuse", out_of_distribution="refuse")
    assert not list(tmp_path.rglob("predictions.*[!s]"))
    predictions, record = run(folders, new, of=PROFILED, out_of_distribution="refuse")
    assert (record["n_kept"], record["drift"]["verdict"], record["flagged"]) == (50, "refuse", {})
    assert record["refused"]["out_of_distribution"] == predictions.probability.isna().sum() > 40
    predictions, record = run(folders, new, of=PROFILED)
    assert "Drift, 50 images compared: refuse. Drift in pixels" in caplog.text
    assert predictions.probability.notna().all()
    assert record["flagged"]["out_of_distribution"] == (predictions.reason == "out_of_distribution").sum() > 40


def test_a_folder_without_usable_images_has_predictions(folders, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "broken.png").write_text("no image")
    predictions, record = run(folders, tmp_path / "new", of=PROFILED, on_drift="refuse")
    assert predictions.status.tolist() == ["refused"]
    assert (record["drift"]["verdict"], record["drift"]["n_images"]) == ("unknown", 0)


def test_a_missing_reference_profile_is_logged_once(folders, folder, caplog):
    _, record = run(folders, folder, out_of_distribution="refuse", on_drift="refuse")
    assert (record["out_of_distribution"], record["drift"], record["flagged"]) == (None, None, {})
    assert caplog.text.count("stored no reference profile") == 1
