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
from cxr_pipeline.framework.datasets.files import JSONDataset
from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.pipelines.scoring import create_pipeline
from cxr_pipeline.tracking.drift_profiles import log_profile
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 16
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


FINDINGS = Task(name="findings", title="Findings", kind="multilabel", classes={"Mass": ("Mass",), "Edema": ("Edema",)})


def image_of(patient: int, *, brighter: int = 0) -> np.ndarray:
    image = next(draw_patient(patient + 1, size=SIZE, prevalence={}, seed=1)).pixels
    return np.clip(image.astype(int) + brighter, 0, 255).astype(np.uint8)


def register(*brightness: float, asked: Task, phantom: bool = False, profiled: bool = False) -> dict[str, Any]:
    """Register a network whose scores are the mean grey of an image, as a fraction of white, times ``brightness``."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    seen = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(1 / 255))(image)
    mean = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen)
    scores = keras.layers.Dense(len(brightness), name=OUTPUT)
    network = keras.Model(image, scores(mean))
    scores.set_weights([np.array([brightness]), np.zeros(len(brightness))])
    labels = np.eye(2, len(brightness))
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
        "findings": register(1.0, 0.5, asked=FINDINGS),
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
            "effusion.scoring_record": JSONDataset(filepath=str(tmp_path / "predictions.json")),
        }
    )
    SequentialRunner().run(of_effusion(), catalog)
    return catalog.load("effusion.predictions"), json.loads((tmp_path / "predictions.json").read_text())


def test_the_stage_stands_inside_its_task() -> None:
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
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    predictions, record = run(tmp_path, folder=str(folder))
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


def test_findings_that_come_together_have_a_probability_each(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    predictions, record = run(tmp_path, folder=str(folder), asked=FINDINGS)
    columns = ["image", "probability_Mass", "probability_Edema", "decision", "status", "reason"]
    assert predictions.columns.tolist() == columns
    np.testing.assert_allclose(predictions.iloc[:, 1:3], [[0.8, 0.4], [np.nan] * 2, [0.8, 0.4]], atol=1e-6)
    assert predictions.decision.fillna("").tolist() == ["Mass", "", "Mass"]
    assert (record["classes"], record["thresholds"]) == (["Mass", "Edema"], {"Mass": 0.5, "Edema": 0.5})


def test_a_image_without_any_finding_is_not_without_a_decision(
    tmp_path: Path, versions: dict[str, dict[str, Any]]
) -> None:
    image = np.full((64, 64), 41, np.uint8)
    image[:, 32:] = 61
    (tmp_path / "new").mkdir()
    cv2.imwrite(str(tmp_path / "new" / "dim.png"), image)
    predictions, record = run(tmp_path, folder=str(tmp_path / "new"), asked=FINDINGS)
    assert predictions.decision.tolist() == ["none"]
    assert record["decisions"] == {"none": 1}


@pytest.mark.parametrize("asked", [task(), FINDINGS])
def test_maps_stand_beside_the_predictions_of_their_task(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]], asked: Task
) -> None:
    predictions, _ = run(tmp_path, folder=str(folder), asked=asked, heatmaps=True)
    drawn = [path for path in (folders(tmp_path).outputs / asked.name / "heatmaps").rglob("*") if path.is_file()]
    scored = predictions.loc[predictions.status == "scored", "image"]
    assert sorted(drawn) == sorted(
        folders(tmp_path).outputs / asked.name / "heatmaps" / f"{name}.png" for name in scored
    )


def test_without_being_asked_for_no_map_is_drawn(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    run(tmp_path, folder=str(folder))
    assert [path.name for path in (folders(tmp_path).outputs / "effusion").iterdir()] == ["predictions.parts"]


def test_a_task_on_phantoms_is_scored_by_what_was_trained_on_phantoms(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    predictions, record = run(tmp_path, folder=str(folder), sources=PHANTOMS)
    assert record["uri"] == "models:/cxr-effusion-demo/1"
    assert record["provenance"]["images"] == "phantom"
    np.testing.assert_allclose(predictions.probability[0], 0.2, atol=1e-6)


@pytest.fixture
def champion(versions: dict[str, dict[str, Any]]) -> Iterator[int]:
    """The first version, for the time of a test."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("cxr-effusion", "champion", "1")
    yield 1
    client.delete_registered_model_alias("cxr-effusion", "champion")


@pytest.mark.parametrize("model", [None, "models:/cxr-effusion@champion"])
def test_images_are_scored_by_the_champion_where_there_is_one(
    tmp_path: Path, folder: Path, champion: int, model: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cxr_pipeline")
    predictions, record = run(tmp_path, folder=str(folder), model=model)
    assert (record["uri"], record["version"]) == ("models:/cxr-effusion/1", 1)
    assert record["chosen"] == ("named by scoring.model" if model else "the champion")
    assert f"Images are scored by models:/cxr-effusion/1: {record['chosen']}." in caplog.text
    np.testing.assert_allclose(predictions.probability[0], 0.4, atol=1e-6)


def test_without_a_champion_the_log_says_that_the_newest_is_used(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cxr_pipeline")
    run(tmp_path, folder=str(folder))
    assert "models:/cxr-effusion/2: the newest version, since none of cxr-effusion has the alias" in caplog.text


def test_parquet_stands_beside_the_csv_when_asked_for(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    predictions, _ = run(tmp_path, folder=str(folder), parquet=True)
    file = folders(tmp_path).outputs / "effusion" / "predictions.parquet"
    written = pd.read_parquet(file)
    assert written.columns.tolist() == predictions.columns.tolist()
    assert written.image.tolist() == predictions.image.tolist()
    np.testing.assert_array_equal(written.probability, predictions.probability)
    assert written.reason.fillna("").tolist() == predictions.reason.fillna("").tolist()
    run(tmp_path, folder=str(folder))
    assert not file.exists()


def test_a_second_run_keeps_what_the_first_scored(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    first, record = run(tmp_path, folder=str(folder))
    assert (record["n_kept"], record["n_scored"]) == (0, 2)
    second, record = run(tmp_path, folder=str(folder))
    assert (record["n_kept"], record["n_scored"]) == (2, 2)
    pd.testing.assert_frame_equal(first, second)
    third, record = run(tmp_path, folder=str(folder), model="models:/cxr-effusion/1")
    assert (record["n_kept"], record["thresholds"]) == (0, {"effusion": 0.5})
    np.testing.assert_allclose(third.probability, first.probability / 2, atol=1e-6)


def test_the_record_says_when_and_by_what_code(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    _, record = run(tmp_path, folder=str(folder))
    assert datetime.fromisoformat(record["started"]) <= datetime.fromisoformat(record["ended"])
    assert record["code"] == cxr_pipeline.__version__


def test_predictions_that_cannot_be_written_are_a_mistake_that_is_named(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]]
) -> None:
    folders(tmp_path).outputs.mkdir()
    (folders(tmp_path).outputs / "effusion").write_text("a file")
    with pytest.raises(UserError, match=r"Predictions cannot be written to .*outputs/effusion/predictions\.parts"):
        run(tmp_path, folder=str(folder))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"folder": None}, r"effusion\.scoring\.folder is null.*--params effusion\.scoring\.folder=DIR"),
        ({"folder": "/no/such/folder"}, "found nothing at /no/such/folder"),
        ({"model": "models:/cxr-effusion/77"}, "No usable model at models:/cxr-effusion/77"),
        ({"asked": task("pneumonia")}, r"effusion\.scoring\.model is binary, with the classes nofinding, effusion"),
    ],
)
def test_a_mistake_of_the_user_is_named(
    tmp_path: Path, folder: Path, versions: dict[str, dict[str, Any]], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, **{"folder": str(folder), **named})
    assert not (tmp_path / "predictions.csv").exists()


def write_images(folder: Path, *, brighter: int = 0) -> str:
    folder.mkdir()
    for patient in range(200, 250):
        cv2.imwrite(str(folder / f"{patient}.png"), image_of(patient, brighter=brighter))
    return str(folder)


def test_images_of_the_same_kind_are_compared_and_nothing_is_found(tmp_path: Path, versions) -> None:
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


def test_images_of_another_kind_are_flagged_and_told(tmp_path: Path, versions, caplog) -> None:
    new = write_images(tmp_path / "new", brighter=120)
    predictions, record = run(tmp_path, folder=new, asked=PROFILED)
    assert record["drift"]["verdict"] == "refuse"
    assert "Drift, 50 images compared: refuse. Drift in pixels" in caplog.text
    assert (predictions.status == "scored").all()
    assert predictions.probability.notna().all()
    assert record["flagged"]["out_of_distribution"] == (predictions.reason == "out_of_distribution").sum() > 40
    assert "50 images were flagged:" in caplog.text


def test_a_folder_can_be_refused_for_it_and_scored_after_all(tmp_path: Path, versions) -> None:
    new = write_images(tmp_path / "new", brighter=120)
    with pytest.raises(UserError, match=r"Drift in pixels.*profiled\.scoring\.on_drift=warn"):
        run(tmp_path, folder=new, asked=PROFILED, on_drift="refuse", out_of_distribution="refuse")
    assert not (tmp_path / "predictions.csv").exists()
    assert not (tmp_path / "predictions.json").exists()
    predictions, record = run(tmp_path, folder=new, asked=PROFILED, out_of_distribution="refuse")
    assert (record["n_kept"], record["drift"]["verdict"], record["flagged"]) == (50, "refuse", {})
    assert record["refused"]["out_of_distribution"] == predictions.probability.isna().sum() > 40


def test_of_a_folder_that_is_refused_nobody_reads_the_predictions_of_an_earlier_one(tmp_path: Path, versions) -> None:
    beside = folders(tmp_path).outputs / "profiled"
    beside.mkdir(parents=True)
    earlier = [beside / f"predictions.{suffix}" for suffix in ("csv", "json", "parquet")]
    for file in earlier:
        file.write_text("of yesterday")
    new = write_images(tmp_path / "new", brighter=120)
    with pytest.raises(UserError, match="No predictions are written, and earlier ones are removed"):
        run(tmp_path, folder=new, asked=PROFILED, on_drift="refuse")
    assert not [file for file in earlier if file.exists()]
    assert (beside / "predictions.parts").exists()


def test_a_folder_in_which_no_image_can_be_looked_at_has_predictions(tmp_path: Path, versions) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "broken.png").write_text("no image")
    predictions, record = run(tmp_path, folder=str(tmp_path / "new"), asked=PROFILED, on_drift="refuse")
    assert predictions.status.tolist() == ["refused"]
    assert (record["drift"]["verdict"], record["drift"]["n_images"]) == ("unknown", 0)
    assert "no image could be read" in record["drift"]["sentence"]


def test_where_the_run_of_a_model_left_no_profile_it_is_said_once(tmp_path: Path, folder: Path, versions, caplog):
    _, record = run(tmp_path, folder=str(folder), out_of_distribution="refuse", on_drift="refuse")
    assert (record["out_of_distribution"], record["drift"], record["flagged"]) == (None, None, {})
    assert caplog.text.count("stored no reference profile") == 1


def test_naming_the_pipeline_starts_neither_tensorflow_nor_scikit_learn() -> None:
    started = "{'tensorflow', 'keras', 'sklearn', 'cv2'} & set(sys.modules)"
    code = f"import sys, cxr_pipeline.pipelines.scoring as stage; stage.create_pipeline(); print({started})"
    called = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert called.stdout.strip() == "set()", called.stderr
