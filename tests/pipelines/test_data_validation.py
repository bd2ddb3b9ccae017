"""New images before a retraining, on phantoms and a network that knows how the ill ones were drawn."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.manifest import list_images
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.data.sources import open_source, read_source
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.data_changes import images_used
from cxr_pipeline.deployment.drift.feature_extraction import extract_features
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.framework.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.pipelines.data_validation import nodes
from cxr_pipeline.tracking import promotion_records, runs
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE, MODEL = 32, "cxr-chest-demo"
CONF = Path(__file__).parents[2] / "conf" / "base" / "parameters" / "defaults.yml"
DEFAULTS = yaml.safe_load(CONF.read_text())["defaults"]
TASK = Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
SOURCE = {"layout": "class_folders", "patient_id": r"^(\d+)_"}
SOURCES = Sources({"old": {**SOURCE, "path": "old"}, "new": {**SOURCE, "path": "new"}})
RULE = Retraining(**DEFAULTS["retraining"])


def is_ill(patient: int) -> bool:
    return patient % 3 == 0


def draw(patient: int, *, brighter: int = 0) -> np.ndarray:
    """A phantom; that of an ill patient is white at its foot, as far up as it happens to be."""
    image = next(draw_patient(patient, size=SIZE, prevalence={}, seed=1)).pixels.astype(int)
    if is_ill(patient):
        image[-6 - patient % 5 :] = 250
    return np.clip(image + brighter, 0, 255).astype(np.uint8)


def write(folder: Path, patients: range, *, flipped: bool = False, brighter: int = 0) -> None:
    for patient in patients:
        path = folder / ("ill" if is_ill(patient) != flipped else "well") / f"{patient}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw(patient, brighter=brighter))


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    """Its score grows with the grey of the lowest rows."""
    image = keras.Input((SIZE, SIZE, 1))
    rows = keras.layers.AveragePooling2D((2, SIZE))(image)
    pooled = keras.layers.Flatten(name=POOLED)(keras.layers.Rescaling(1 / 255)(rows))
    score = keras.layers.Dense(1, "sigmoid", name=OUTPUT)
    network = keras.Model(image, score(pooled))
    weights = np.zeros((SIZE // 2, 1))
    weights[-3:] = 8
    score.set_weights([weights, np.array([-18.0])])
    rule = fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("well", "ill"),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )
    return ImageClassifier(network, Recipe(size=SIZE, mode="fit", max_megapixels=1), rule, {"images": "phantom"})


@pytest.fixture(scope="module")
def profile(classifier: ImageClassifier) -> ReferenceProfile:
    def look(patients: range):
        images = np.stack([draw(patient) for patient in patients])
        labels = np.array([[float(is_ill(patient))] for patient in patients])
        return replace(extract_features(classifier.model, classifier.decision_rule, [images]), y_true=labels)

    return ReferenceProfile.fit(look(range(1, 121)), look(range(121, 221)), outputs=("ill",), seed=0)


@pytest.fixture
def known(
    monkeypatch: pytest.MonkeyPatch, classifier: ImageClassifier, profile: ReferenceProfile
) -> Iterator[SimpleNamespace]:
    """What MLflow has of versions 2 and 3, the champion, in its place, and the tags of the run."""
    found = SimpleNamespace(profiles={2: profile, 3: profile}, tags={}, used={}, since=3, other=None, compared=None)

    def resolve(uri: str) -> tracking.ModelVersion:
        number = int(uri.rpartition("/")[2])
        if number not in found.profiles:
            raise UserError("There is no such version.")
        return tracking.ModelVersion(uri, name=MODEL, version=number, run_id="r")

    def load(name: str, number: int, **asked: Any) -> ImageClassifier:
        if number == found.other:
            raise UserError("It decides between other classes.")
        return classifier

    monkeypatch.setattr(tracking, "resolve_version", resolve)
    monkeypatch.setattr(nodes, "usable_profile", lambda version: found.profiles[version.version])
    monkeypatch.setattr(promotion_records, "load_champion", load)
    monkeypatch.setattr(promotion_records, "images_of_champion", lambda name, number: found.used[number])
    monkeypatch.setattr(promotion_records, "compared_since", lambda name, champion: found.since)
    monkeypatch.setattr(promotion_records, "images_compared_after", lambda name, version: found.compared)
    monkeypatch.setattr(runs, "set_tags", found.tags.update)
    yield found


def look(
    known: SimpleNamespace, raw: Path, n_new: int = 60, on_drift: str = "refuse", n_before: int = 0, **images: Any
) -> dict[str, Any]:
    """Look at images of new patients, of a source of its own, beside images that the champion has.

    ``n_before`` of these the champion has, too, and version 2 does not.
    """
    write(raw / "old", range(1, 7))
    write(raw / "new", range(301, 301 + n_new), **images)
    listings = {
        name: tuple(
            act(SOURCE["layout"], raw / name, patient_id=SOURCE["patient_id"], **where)
            for act, where in ((open_source, {"unpacked": raw}), (read_source, {}))
        )
        for name in ("old", "new")
    }
    table, _, _ = list_images(listings, labels=TASK.labels)
    is_new = table["source"] == "new"
    before = is_new & (table["patient_id"].astype(int) < 301 + n_before)
    for version, had in ((2, ~is_new), (3, ~is_new | before)):
        splits = table.loc[had, ["source", "image", "sha256", "patient_id"]].assign(split="train")
        known.used[version] = images_used(table[had], splits, pd.DataFrame({"sha256": []}, dtype="str"))
    news = {"train": True, "stopped": None, "model": MODEL, "champion": 3, "news": {"new": int((~had).sum())}}
    folders = Folders(**dict.fromkeys(Folders.model_fields, raw))
    rule = RULE.model_copy(update={"on_drift": on_drift})
    found = nodes.look_for_drift(news, table, TASK, SOURCES, folders, Drift(**DEFAULTS["drift"]), rule)
    json.dumps(found, allow_nan=False)
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {family["name"]: family["verdict"] for family in found["drift"]["families"]}


def test_new_images_of_the_same_kind_are_trained_on(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path)
    assert found["drift"]["verdict"] == "none", found["drift"]["sentence"]
    assert "unknown" not in verdicts(found).values()
    assert (found["train"], found["stopped"]) == (True, None)
    assert known.tags == {"drift": "none"}
    assert found["drift"]["new_images"]["images"] == found["drift"]["n_new"] == 60


def test_bad_labels_of_new_images_stop_it(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path, flipped=True)
    assert verdicts(found) | {"calibration": "refuse"} == verdicts(found)
    assert verdicts(found)["prevalence"] == "warn"
    assert {verdicts(found)[name] for name in ("pixels", "features", "scores")} == {"none"}
    assert not found["train"]
    assert "Drift in prevalence" in found["stopped"]
    assert "calibration (ill" in found["stopped"]
    assert f"the champion, {MODEL} 3," in found["stopped"]
    assert known.tags == {"drift": "refuse"}


def test_another_machine_stops_it(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path, brighter=90)
    assert verdicts(found)["pixels"] == "refuse"
    assert not found["train"]


def test_what_is_to_be_passed_over_is_trained_on_and_recorded(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path, on_drift="warn", flipped=True)
    assert (found["train"], found["stopped"], found["drift"]["verdict"]) == (True, None, "refuse")
    assert known.tags == {"drift": "refuse"}


def test_too_few_images_and_no_profile_tell_nothing_and_stop_nothing(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path / "few", n_new=20, flipped=True)
    assert (found["train"], found["drift"]["verdict"], known.tags["drift"]) == (True, "unknown", "unknown")
    assert "cannot be tested with 20 new images" in found["drift"]["sentence"]
    assert found["drift"]["since"] == 3
    known.profiles[3] = None
    found = look(known, tmp_path / "none", flipped=True)
    assert (found["train"], found["drift"]["verdict"]) == (True, "unknown")
    assert f"{MODEL} 3 has no profile of its images" in found["drift"]["sentence"]
    assert found["drift"]["since"] == 3


def test_small_parts_add_up_until_they_can_be_told(known: SimpleNamespace, tmp_path: Path) -> None:
    known.since = 2
    found = look(known, tmp_path, n_before=40, flipped=True)
    assert (found["drift"]["verdict"], found["drift"]["since"], found["drift"]["n_new"]) == ("refuse", 2, 60)
    assert found["drift"]["model"]["version"] == 2
    assert f"unlike those that {MODEL} 2 comes from" in found["stopped"]
    assert f"the champion, {MODEL} 3, has learned from" in found["stopped"]
    known.since = 3
    alone = look(known, tmp_path, n_before=40, flipped=True)
    assert (alone["drift"]["verdict"], alone["drift"]["since"], alone["drift"]["n_new"]) == ("unknown", 3, 20)


def test_what_was_compared_on_an_earlier_night_is_not_compared_again(known: SimpleNamespace, tmp_path: Path) -> None:
    look(known, tmp_path, n_before=25)
    known.compared = known.used[3]
    assert look(known, tmp_path)["drift"]["n_new"] == 35
    known.compared = known.compared.assign(label_ill=1 - known.compared["label_ill"])
    assert look(known, tmp_path)["drift"]["n_new"] == 60


def test_a_part_that_could_not_be_told_is_not_forgotten_where_only_labels_are_new(known, tmp_path: Path) -> None:
    known.since = 2
    found = look(known, tmp_path, n_new=20, n_before=20)
    assert found["news"]["new"] == 0
    assert (found["drift"]["verdict"], found["drift"]["since"]) == ("unknown", 2)


@pytest.mark.parametrize("lost", ["gone", "without a profile", "of other classes"])
def test_without_the_earlier_version_it_is_the_champion(known: SimpleNamespace, tmp_path: Path, lost: str) -> None:
    known.since = 2
    if lost == "gone":
        del known.profiles[2]
    elif lost == "without a profile":
        known.profiles[2] = None
    else:
        known.other = 2
    found = look(known, tmp_path, n_before=20)
    assert (found["drift"]["verdict"], found["drift"]["since"], found["drift"]["n_new"]) == ("none", 3, 40)
    assert found["drift"]["model"]["version"] == 3


def test_where_no_new_image_can_be_looked_at_nothing_is_told(known: SimpleNamespace, tmp_path: Path) -> None:
    write(tmp_path / "new", range(301, 302))
    [image] = (tmp_path / "new").rglob("*.png")
    image.write_bytes(image.read_bytes()[:60])
    found = look(known, tmp_path, n_new=0)
    assert found["drift"]["new_images"]["refused"] == {"truncated": 1}
    assert (found["train"], found["drift"]["verdict"], known.tags) == (True, "unknown", {"drift": "unknown"})
    assert "no image could be read" in found["drift"]["sentence"]


@pytest.mark.parametrize(
    "news",
    [
        {"train": False, "stopped": None, "news": {"new": 0}},
        {"train": False, "stopped": "Too many labels.", "news": {"new": 60}},
        {"train": True, "stopped": None, "news": None},
    ],
)
def test_without_new_images_there_is_nothing_to_compare(known: SimpleNamespace, news: dict[str, Any]) -> None:
    assert nodes.look_for_drift(news, pd.DataFrame(), TASK, SOURCES, None, None, RULE) == {**news, "drift": None}
    assert known.tags == {}


def test_where_only_labels_are_new_there_is_nothing_to_compare(known: SimpleNamespace, tmp_path: Path) -> None:
    found = look(known, tmp_path, n_new=20, n_before=20)
    assert (found["train"], found["drift"], known.tags) == (True, None, {})
