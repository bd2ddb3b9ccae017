import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

import cxr_pipeline
from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.drift.feature_extraction import extract_features
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.framework.config import Drift, Folders, Scoring, Sources, Task
from cxr_pipeline.framework.datasets.files import FileDataset
from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.pipelines.scoring import create_pipeline
from cxr_pipeline.tracking.artifacts import log_profile
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 16
Versions = dict[str, dict[str, Any]]
DEFAULTS = Path(__file__).parents[2] / "conf" / "base" / "parameters" / "defaults.yml"
DRIFT = yaml.safe_load(DEFAULTS.read_text())["defaults"]["drift"]
PHANTOMS = Sources(
    {"drawn": {"layout": "phantoms", "path": "phantoms", "n_patients": 3, "prevalence": {"Effusion": 0.5}}}
)
IMAGES = Sources({"images": {"layout": "class_folders", "path": "images"}})


PROFILED = Task(name="profiled", title="P", kind="binary", classes={"well": ("well",), "ill": ("ill",)})


def task(positive: str = "effusion") -> Task:
    classes = {"nofinding": ("No Finding",), positive: (positive,)}
    return Task(name="effusion", title="Pleural effusion", kind="binary", classes=classes)


def image_of(patient: int, *, brighter: int = 0) -> np.ndarray:
    image = next(draw_patient(patient + 1, size=SIZE, prevalence={}, seed=1)).pixels
    return np.clip(image.astype(int) + brighter, 0, 255).astype(np.uint8)


def register(brightness: float, *, asked: Task, phantom: bool = False, profiled: bool = False) -> dict[str, Any]:
    """Register a network whose scores are the mean grey of an image, as a fraction of white, times ``brightness``."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    seen = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(1 / 255))(image)
    mean = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen)
    weight = keras.initializers.Constant(brightness)
    network = keras.Model(image, keras.layers.Dense(1, name=OUTPUT, kernel_initializer=weight)(mean))
    labels = [[0], [1]]
    rule = fit_decision_rule(
        labels,
        labels,
        kind=asked.kind,
        classes=tuple(asked.classes),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )
    with mlflow.start_run():
        if profiled:
            images = np.stack([image_of(patient) for patient in range(160)])
            own = [extract_features(network, rule, [part]) for part in (images[:100], images[100:])]
            log_profile(ReferenceProfile.fit(*own, outputs=rule.outputs, seed=0))
        return tracking.register_version(
            task=asked.name,
            phantom=phantom,
            model=network,
            recipe=Recipe(size=SIZE, mode="stretch", max_megapixels=1.0),
            decision_rule=rule,
            metrics={
                "split": "test",
                "n_images": 4,
                "thresholds": rule.thresholds,
                "metrics": {"auc": {"value": 0.75, "low": None, "high": None}},
            },
            data_digest="d" * 64,
            example=np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1)),
            tags={},
        )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("store")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("tests")
    yield {
        "first": register(0.5, asked=task()),
        "second": register(1.0, asked=task()),
        "phantom": register(0.25, asked=task(), phantom=True),
        "profiled": register(1.0, asked=PROFILED, profiled=True),
    }
    mlflow.set_tracking_uri(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image whose mean is 204, a file that is no image, and an image with a name made to deceive."""
    new = tmp_path / "new"
    (new / "ward").mkdir(parents=True)
    image = np.full((64, 64), 194, np.uint8)
    image[:, 32:] = 214
    content = cv2.imencode(".png", image)[1].tobytes()
    (new / "image.png").write_bytes(content)
    (new / "notes.png").write_text("no image")
    (new / "ward" / 'a,"b"\n0.9,effusion,scored,.png').write_bytes(content)
    return new


def folders(tmp_path: Path) -> Folders:
    return Folders(**{name: tmp_path / name for name in Folders.model_fields})


def of_effusion() -> Pipeline:
    """The stage as the task's pipeline has it."""
    return Pipeline(create_pipeline(), namespace="effusion", parameters={"params:folders"})


def run(
    tmp_path: Path,
    *,
    folder: str | None,
    model: str | None = None,
    heatmaps: bool = False,
    parquet: bool = False,
    sources: Sources = IMAGES,
    asked: Task | None = None,
    **compared: Any,
) -> tuple[Any, dict[str, Any]]:
    """Run the stage as a task does, with its outputs in files."""
    scoring = Scoring(folder=folder, model=model, batch_size=2, heatmaps=heatmaps, parquet=parquet, **compared)
    catalog = DataCatalog(
        {
            "params:effusion.task": MemoryDataset(asked or task()),
            "params:effusion.sources": MemoryDataset(sources),
            "params:effusion.scoring": MemoryDataset(scoring),
            "params:effusion.drift": MemoryDataset(Drift(**DRIFT)),
            "params:folders": MemoryDataset(folders(tmp_path)),
            "effusion.predictions": TableDataset(
                filepath=str(tmp_path / "predictions.csv"), text_columns=["image", "decision", "status", "reason"]
            ),
            "effusion.scoring_record": FileDataset(filepath=str(tmp_path / "predictions.json")),
        }
    )
    SequentialRunner().run(of_effusion(), catalog)
    return catalog.load("effusion.predictions"), json.loads((tmp_path / "predictions.json").read_text())


def test_the_node_is_in_the_namespace_of_its_task() -> None:
    node = of_effusion().nodes[0]
    assert node.name == "effusion.scoring.score_images"
    assert sorted(node.inputs) == [
        "params:effusion.drift",
        "params:effusion.scoring",
        "params:effusion.sources",
        "params:effusion.task",
        "params:folders",
    ]
    assert node.outputs == ["effusion.predictions", "effusion.scoring_record"]


def test_images_are_scored_by_the_newest_version(
    tmp_path: Path, folder: Path, versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cxr_pipeline")
    predictions, record = run(tmp_path, folder=str(folder))
    assert "models:/cxr-effusion/2: the newest version, since none of cxr-effusion has the alias" in caplog.text
    assert predictions.columns.tolist() == ["image", "probability", "decision", "status", "reason"]
    assert predictions.image.tolist() == ["image.png", "notes.png", 'ward/a,"b"\n0.9,effusion,scored,.png']
    np.testing.assert_allclose(predictions.probability, [0.8, np.nan, 0.8], atol=1e-6)
    assert predictions.decision.fillna("").tolist() == ["effusion", "", "effusion"]
    assert predictions.status.tolist() == ["scored", "refused", "scored"]
    assert predictions.reason.fillna("").tolist() == ["", "unreadable", ""]
    assert record["uri"] == "models:/cxr-effusion/2"
    assert (record["name"], record["version"]) == ("cxr-effusion", 2)
    assert record["run_id"] == versions["second"]["run_id"]
    assert record["digest"] == versions["second"]["digest"]
    assert record["folder"] == str(folder)
    assert (record["n_images"], record["n_scored"], record["refused"]) == (3, 2, {"unreadable": 1})
    assert datetime.fromisoformat(record["started"]) <= datetime.fromisoformat(record["ended"])
    assert record["code"] == cxr_pipeline.__version__


def test_heat_maps_and_parquet_are_written_only_on_request(tmp_path: Path, folder: Path, versions: Versions) -> None:
    predictions, _ = run(tmp_path, folder=str(folder), heatmaps=True, parquet=True)
    outputs = folders(tmp_path).outputs / "effusion"
    maps = {str(path.relative_to(outputs / "heatmaps")) for path in outputs.glob("heatmaps/**/*") if path.is_file()}
    assert maps == {f"{name}.png" for name in predictions.loc[predictions.status == "scored", "image"]}
    written = pd.read_parquet(outputs / "predictions.parquet")
    assert written.columns.tolist() == predictions.columns.tolist()
    pd.testing.assert_frame_equal(written, predictions, check_dtype=False)
    run(tmp_path, folder=str(folder))
    assert [path.name for path in outputs.iterdir()] == ["predictions.parts"]


def test_a_task_on_phantoms_is_scored_by_a_model_of_phantoms(tmp_path: Path, folder: Path, versions: Versions) -> None:
    predictions, record = run(tmp_path, folder=str(folder), sources=PHANTOMS)
    assert record["uri"] == "models:/cxr-effusion-demo/1"
    assert record["provenance"]["images"] == "phantom"
    np.testing.assert_allclose(predictions.probability[0], 0.2, atol=1e-6)


@pytest.fixture
def champion(versions: Versions) -> Iterator[int]:
    """The first version, for the time of a test."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("cxr-effusion", "champion", "1")
    yield 1
    client.delete_registered_model_alias("cxr-effusion", "champion")


@pytest.mark.parametrize("model", [None, "models:/cxr-effusion@champion"])
def test_images_are_scored_by_the_champion(
    tmp_path: Path, folder: Path, champion: int, model: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cxr_pipeline")
    predictions, record = run(tmp_path, folder=str(folder), model=model)
    assert (record["uri"], record["version"]) == ("models:/cxr-effusion/1", 1)
    assert record["chosen"] == ("named by scoring.model" if model else "the champion")
    assert f"Images are scored by models:/cxr-effusion/1: {record['chosen']}." in caplog.text
    np.testing.assert_allclose(predictions.probability[0], 0.4, atol=1e-6)


def test_a_second_run_keeps_what_the_first_scored(tmp_path: Path, folder: Path, versions: Versions) -> None:
    first, record = run(tmp_path, folder=str(folder))
    assert (record["n_kept"], record["n_scored"]) == (0, 2)
    second, record = run(tmp_path, folder=str(folder))
    assert (record["n_kept"], record["n_scored"]) == (2, 2)
    pd.testing.assert_frame_equal(first, second)
    third, record = run(tmp_path, folder=str(folder), model="models:/cxr-effusion/1")
    assert (record["n_kept"], record["thresholds"]) == (0, {"effusion": 0.5})
    np.testing.assert_allclose(third.probability, first.probability / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"folder": None}, r"effusion\.scoring\.folder is null.*--params effusion\.scoring\.folder=DIR"),
        ({"folder": "/no/such/folder"}, "found nothing at /no/such/folder"),
        ({"model": "models:/cxr-effusion/77"}, "No usable model at models:/cxr-effusion/77"),
        ({"asked": task("pneumonia")}, r"effusion\.scoring\.model is binary, with the classes nofinding, effusion"),
    ],
)
def test_user_errors(tmp_path: Path, folder: Path, versions: Versions, named: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, **{"folder": str(folder), **named})
    assert not (tmp_path / "predictions.csv").exists()


def write_images(folder: Path, *, brighter: int = 0) -> str:
    folder.mkdir()
    for patient in range(200, 250):
        cv2.imwrite(str(folder / f"{patient}.png"), image_of(patient, brighter=brighter))
    return str(folder)


def test_images_of_the_training_distribution_do_not_drift(tmp_path: Path, versions) -> None:
    new = write_images(tmp_path / "new")
    predictions, record = run(tmp_path, folder=new, asked=PROFILED)
    assert predictions.columns.tolist() == ["image", "probability", "decision", "status", "reason"]
    assert record["out_of_distribution"] == {"action": "flag", "false_alarms": 0.01, "compared": ["pixels", "features"]}
    drift = record["drift"]
    assert (drift["verdict"], drift["on_drift"], drift["n_images"], drift["max_images"]) == ("none", "warn", 50, 500)
    assert drift["families"] == {
        **dict.fromkeys(("pixels", "features", "scores"), "none"),
        **dict.fromkeys(("prevalence", "calibration"), "unknown"),
    }
    assert predictions.reason.notna().sum() == record["flagged"].get("out_of_distribution", 0) <= 3


def test_other_images_are_flagged_and_drift_is_logged(tmp_path: Path, versions, caplog) -> None:
    new = write_images(tmp_path / "new", brighter=120)
    predictions, record = run(tmp_path, folder=new, asked=PROFILED)
    assert record["drift"]["verdict"] == "refuse"
    assert "Drift, 50 images compared: refuse. Drift in pixels" in caplog.text
    assert (predictions.status == "scored").all()
    assert predictions.probability.notna().all()
    assert record["flagged"]["out_of_distribution"] == (predictions.reason == "out_of_distribution").sum() > 40
    assert "50 images were flagged:" in caplog.text


def test_a_folder_that_drifted_can_be_refused_and_scored_later(tmp_path: Path, versions: Versions) -> None:
    outputs = folders(tmp_path).outputs / "profiled"
    outputs.mkdir(parents=True)
    for suffix in ("csv", "json", "parquet"):
        (outputs / f"predictions.{suffix}").write_text("of an earlier folder")
    new = write_images(tmp_path / "new", brighter=120)
    with pytest.raises(
        UserError, match=r"Drift in pixels.* earlier ones are removed.*profiled\.scoring\.on_drift=warn"
    ):
        run(tmp_path, folder=new, asked=PROFILED, on_drift="refuse", out_of_distribution="refuse")
    assert not list(tmp_path.rglob("predictions.*[!s]"))
    predictions, record = run(tmp_path, folder=new, asked=PROFILED, out_of_distribution="refuse")
    assert (record["n_kept"], record["drift"]["verdict"], record["flagged"]) == (50, "refuse", {})
    assert record["refused"]["out_of_distribution"] == predictions.probability.isna().sum() > 40


def test_a_folder_without_usable_images_has_predictions(tmp_path: Path, versions) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "broken.png").write_text("no image")
    predictions, record = run(tmp_path, folder=str(tmp_path / "new"), asked=PROFILED, on_drift="refuse")
    assert predictions.status.tolist() == ["refused"]
    assert (record["drift"]["verdict"], record["drift"]["n_images"]) == ("unknown", 0)
    assert "no image could be read" in record["drift"]["sentence"]


def test_a_missing_reference_profile_is_logged_once(tmp_path: Path, folder: Path, versions, caplog):
    _, record = run(tmp_path, folder=str(folder), out_of_distribution="refuse", on_drift="refuse")
    assert (record["out_of_distribution"], record["drift"], record["flagged"]) == (None, None, {})
    assert caplog.text.count("stored no reference profile") == 1


def test_creating_the_pipeline_imports_neither_tensorflow_nor_scikit_learn() -> None:
    started = "{'tensorflow', 'keras', 'sklearn', 'cv2'} & set(sys.modules)"
    code = f"import sys, cxr_pipeline.pipelines.scoring as stage; stage.create_pipeline(); print({started})"
    called = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert called.stdout.strip() == "set()", called.stderr
