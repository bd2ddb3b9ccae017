"""The stages before training, through Kedro's runner, on images in class folders."""

import io

import cv2
import numpy as np
import pandas as pd
import pytest
from kedro.io import MemoryDataset
from shipped import parameters_of
from stage_runs import run_stage

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.dicom import MODALITIES
from cxr_pipeline.data.splits import COLUMNS
from cxr_pipeline.framework import config
from cxr_pipeline.pipeline_registry import PREPARATION, pipeline_of
from cxr_pipeline.pipelines.resolution import resize_images

SIZE = 24


def draw(path, seed, size=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


@pytest.fixture
def parameters(folders):
    source = {"layout": "class_folders", "path": "images", "patient_id": r"^p(\d+)_"}
    return {
        "params:folders": folders,
        "params:task": config.Task(name="t", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)}),
        "params:sources": config.Sources({"images": source}),
        "params:ingestion": config.Ingestion(max_quarantined_fraction=0.5),
        "params:resolution": config.Resolution(size=SIZE, mode="fit", max_megapixels=1),
        "params:morphology": config.Morphology(steps=[{"operation": "opening", "shape": "rectangle", "size": 3}]),
        "params:splitting": config.Splitting(train=0.6, validation=0.2, test=0.2, seed=1),
        "params:training": config.Training(**{**parameters_of()["training"], "folds": 2}),
        "params:resampling": config.Resampling(plan="oversample", class_weights=False, seed=1),
    }


def test_the_recipe_accepts_the_dicom_images_that_any_source_accepts(parameters):
    pacs = {"layout": "dicom_folder", "path": "p", "table": "t.csv", "columns": {"image": "i", "labels": "l"}}
    sources = config.Sources(
        {"pacs": {**pacs, "body_parts": ["TORAX"]}, "other": {**pacs, "body_parts": ["CHEST"], "modalities": ["RF"]}}
    )
    images = pd.DataFrame(columns=["source", "path", "sha256"])
    prepared, _ = resize_images(images, sources, parameters["params:resolution"], parameters["params:folders"])
    assert prepared.recipe.body_parts == ("TORAX", "CHEST")
    assert prepared.recipe.modalities == (*MODALITIES, "RF")


class KeptDataset(MemoryDataset):
    """A dataset that keeps its value after the last node has read it."""

    def _release(self):
        pass


def run(parameters, earlier=None):
    pipeline = pipeline_of(*PREPARATION, "resampling").filter(
        to_outputs=["sampling_plan", "enhanced_images", "data_report", "quarantine"]
    )
    registry = pd.DataFrame(columns=list(COLUMNS), dtype="str")
    inputs = {**parameters, "earlier_splits": registry if earlier is None else earlier}
    return run_stage(pipeline, inputs, {name: KeptDataset(copy_mode="assign") for name in pipeline.all_outputs()})


def test_a_patient_in_several_given_splits_stops_the_run(parameters, tmp_path):
    for part in ("train", "val", "test"):
        for number, name in enumerate(("well", "ill")):
            draw(tmp_path / "raw" / "given" / part / name / f"p{number}_{part}.png", len(part) * 10 + number)
    given = {"layout": "class_folders", "path": "given", "patient_id": r"^p(\d+)_"}
    with pytest.raises(UserError, match=r"2 patients are in several(.|\n)*t\.splitting\.ignore_given"):
        run({**parameters, "params:sources": config.Sources({"images": given})})


def test_patient_ids_that_are_added_later(parameters, tmp_path):
    """The parameter that the message offers makes new splits, and the earlier ones are returned as a file."""
    for number in range(20):
        name = "ill" if number < 8 else "well"
        draw(tmp_path / "raw" / "images" / name / f"p{number // 2}_{number}.png", number)
    source = {"layout": "class_folders", "path": "images"}
    without = {**parameters, "params:sources": config.Sources({"images": source})}
    earlier = run(without)["splits"]
    with pytest.raises(UserError, match=r"t/splits\.parquet(.|\n)*--params t\.splitting\.renew=true"):
        run(parameters, earlier)
    splitting = parameters["params:splitting"].model_copy(update={"renew": True})
    results = run({**parameters, "params:splitting": splitting}, earlier)
    assert results["splits"].groupby("patient_id")["split"].nunique().max() == 1
    ((name, content),) = results["former_splits"].items()
    assert name.endswith(".parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(content)), earlier)
    assert run(parameters, results["splits"])["former_splits"] == {}
