"""The stages before training, through Kedro's runner, on images in class folders."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from kedro.io import MemoryDataset
from shipped import parameters_of
from stage_runs import run_stage

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import COLUMNS
from cxr_pipeline.framework import config
from cxr_pipeline.pipeline_registry import PREPARATION, pipeline_of
from cxr_pipeline.pipelines.resampling import nodes

SIZE = 24


def draw(path: Path, seed: int, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, object]:
    folders = {name: tmp_path / name for name in config.Folders.model_fields}
    source = {"layout": "class_folders", "path": "images", "patient_id": r"^p(\d+)_"}
    return {
        "params:folders": config.Folders(**folders),
        "params:task": config.Task(name="t", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)}),
        "params:sources": config.Sources({"images": source}),
        "params:ingestion": config.Ingestion(max_quarantined_fraction=0.5),
        "params:resolution": config.Resolution(size=SIZE, mode="fit", max_megapixels=1),
        "params:morphology": config.Morphology(steps=[{"operation": "opening", "shape": "rectangle", "size": 3}]),
        "params:splitting": config.Splitting(train=0.6, validation=0.2, test=0.2, seed=1),
        "params:resampling": config.Resampling(plan="oversample", class_weights=False, seed=1),
    }


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten patients with two images each, four of them ill."""
    folder = tmp_path / "raw" / "images"
    for patient in range(10):
        for image in range(2):
            draw(folder / ("ill" if patient < 4 else "well") / f"p{patient}_{image}.png", 10 * patient + image)
    return folder


class KeptDataset(MemoryDataset):
    """A dataset that keeps its value after the last node has read it."""

    def _release(self) -> None:
        pass


def run(parameters: dict[str, object], earlier: pd.DataFrame | None = None) -> dict[str, object]:
    pipeline = pipeline_of(*PREPARATION, "resampling").filter(
        to_outputs=["sampling_plan", "enhanced_images", "data_report", "quarantine"]
    )
    registry = pd.DataFrame(columns=list(COLUMNS), dtype="str") if earlier is None else earlier
    inputs = {**parameters, "earlier_splits": registry}
    return run_stage(pipeline, inputs, {name: KeptDataset(copy_mode="assign") for name in pipeline.all_outputs()})


def test_every_image_goes_through_all_stages(parameters, images) -> None:
    results = run(parameters)
    manifest, splits, plan = results["manifest"], results["splits"], results["sampling_plan"]
    assert len(manifest) == 20
    assert manifest["label_ill"].sum() == 8
    assert splits.groupby("patient_id")["split"].nunique().max() == 1
    assert sorted(plan["image"]) == sorted(splits.loc[splits["split"] == "train", "image"])


def test_the_preview_of_the_augmentation_starts_with_the_image_itself(parameters, images, monkeypatch) -> None:
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(nodes, "augmentation_preview", lambda views: drawn.append(views) or b"png")
    results = run(parameters)
    prepared, plan = results["enhanced_images"], results["sampling_plan"]
    augmentation = config.Augmentation(**{**parameters_of()["augmentation"], "rotation": 10})
    assert nodes.preview_augmentation(prepared, plan, augmentation) == b"png"
    (views,) = drawn
    assert views.shape == (6, 5, SIZE, SIZE)
    np.testing.assert_array_equal(views[:, 0], prepared.read(sorted(plan["sha256"])[:6]))
    assert all((views[:, view] != views[:, 0]).any() for view in range(1, 5))


def test_oversampling_shows_exclusive_classes_equally_often(parameters, images, tmp_path) -> None:
    for patient in range(10, 24):
        draw(images / "worse" / f"p{patient}_0.png", 500 + patient)
    classes = {name: (name,) for name in ("well", "ill", "worse")}
    parameters["params:task"] = config.Task(name="t", title="T", kind="multiclass", classes=classes)
    results = run(parameters)
    labels = results["manifest"].set_index("image")[[f"label_{name}" for name in classes]]
    assert labels.sum().tolist() == [12, 8, 14]
    assert (labels.sum(axis=1) == 1).all()
    plan = results["sampling_plan"]
    shown = labels.loc[plan["image"]].mul(plan["count"].to_numpy(), axis=0).sum()
    assert shown.min() == shown.max() > 0


def test_findings_may_occur_together_and_be_unknown(parameters, tmp_path) -> None:
    rows = ["image,patient,Mass,Edema,Hernia"]
    for patient in range(20):
        for image in range(2):
            draw(tmp_path / "raw" / "images" / f"{patient}_{image}.png", 10 * patient + image)
            rows.append(f"{patient}_{image}.png,{patient},{int(patient < 8)},{int(patient % 2)},{'' if image else 0}")
    (tmp_path / "raw" / "images" / "labels.csv").write_text("\n".join(rows) + "\n")
    columns = {"image": "image", "one_hot": ["Mass", "Edema", "Hernia"], "patient_id": "patient"}
    source = {"layout": "label_table", "path": "images", "table": "labels.csv", "columns": columns}
    classes = {name: (name,) for name in ("Mass", "Edema", "Hernia")}
    parameters["params:sources"] = config.Sources({"images": source})
    parameters["params:task"] = config.Task(name="t", title="T", kind="multilabel", classes=classes)
    parameters["params:resampling"] = config.Resampling(plan="none", class_weights=False, seed=1)
    results = run(parameters)
    manifest = results["manifest"]
    assert len(manifest) == 40
    assert manifest[["label_Mass", "label_Edema", "label_Hernia"]].sum().tolist() == [16, 20, 0]
    assert manifest["label_Hernia"].isna().sum() == 20
    assert set(results["splits"]["split"]) == {"train", "validation", "test"}
    assert (results["sampling_plan"]["count"] == 1).all()


def test_prepared_images_are_resized_and_opened(parameters, images) -> None:
    results = run(parameters)
    row = results["manifest"].iloc[0]
    original = cv2.imread(str(images / row["path"]), cv2.IMREAD_GRAYSCALE)
    resized = results["resized_images"].read([row["sha256"]])[0]
    enhanced = results["enhanced_images"].read([row["sha256"]])[0]
    assert resized.shape == (SIZE, SIZE)
    assert abs(float(resized.mean()) - float(original.mean())) < 2
    np.testing.assert_array_equal(enhanced, cv2.morphologyEx(resized, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))


def test_an_image_that_cannot_be_decoded_is_quarantined_and_counted(parameters, images) -> None:
    (images / "ill" / "p2_1.png").write_bytes(b"no image")
    (images / "well" / "p9_1.png").write_bytes((images / "well" / "p9_0.png").read_bytes())
    results = run(parameters)
    assert dict(zip(results["quarantine"]["image"], results["quarantine"]["reason"], strict=True)) == {
        "ill/p2_1.png": "unreadable",
        "well/p9_1.png": "exact_duplicate",
    }
    counts = results["data_report"]["sources"]["images"]
    assert counts["rows_read"] == 20 == counts["manifest"] + 2


def test_patients_keep_their_split_when_images_are_added(parameters, images) -> None:
    before = run(parameters)["splits"]
    for patient in range(10, 16):
        draw(images / "well" / f"p{patient}_0.png", 1000 + patient)
    draw(images / "ill" / "p0_2.png", 2000)
    after = run(parameters, before)["splits"].set_index("image")["split"]
    assert after.loc[before["image"]].tolist() == before["split"].tolist()
    assert after["ill/p0_2.png"] == after["ill/p0_0.png"]
    assert len(after) == 27


def test_a_patient_in_several_given_splits_stops_the_run(parameters, tmp_path) -> None:
    for part in ("train", "val", "test"):
        for number, name in enumerate(("well", "ill")):
            draw(tmp_path / "raw" / "given" / part / name / f"p{number}_{part}.png", len(part) * 10 + number)
    given = {"layout": "class_folders", "path": "given", "patient_id": r"^p(\d+)_"}
    parameters["params:sources"] = config.Sources({"images": given})
    with pytest.raises(UserError, match=r"2 patients are in several(.|\n)*t\.splitting\.ignore_given"):
        run(parameters)
