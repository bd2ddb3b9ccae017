import functools
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier, probability_columns
from cxr_pipeline.evaluation.decision_rule import DecisionRule, fit_decision_rule, rule_from_dict

SIZE = 16


def rule(threshold: float, calibration: str = "none") -> DecisionRule:
    return fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration=calibration,
        policy={"rule": "fixed", "value": threshold},
    )


def brightness_network(slopes: tuple[float, ...] = (1.0,), offsets: tuple[float, ...] = (0.0,)) -> keras.Model:
    """A network whose scores are known without it: straight lines over the mean grey as a fraction of white."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    mean = keras.layers.GlobalAveragePooling2D()(image)
    lines = keras.layers.Dense(len(slopes))
    network = keras.Model(image, lines(mean), name="brightness")
    lines.set_weights([np.array([slopes], np.float32) / 255, np.array(offsets, np.float32)])
    return network


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return ImageClassifier(brightness_network(), recipe, rule(0.5), {"task": "effusion", "images": "real"})


@functools.cache
def with_several_outputs(kind: str) -> ImageClassifier:
    """A classifier with thresholds that differ: of exclusive classes, or of findings that may come together."""
    classes, slopes, offsets, thresholds = {
        "multiclass": (("No Finding", "Mass", "Nodule"), (1.0, -0.75, -0.25), (0.0, 0.75, 0.25), (0.5, 0.375, 0.0625)),
        "multilabel": (("Edema", "Pleural_Thickening"), (1.0, 0.5), (0.0, 0.0), (0.25, 0.375)),
    }[kind]
    policy = {"rule": "fixed", "value": 0.5}
    labels = np.eye(len(classes))
    fitted = fit_decision_rule(labels, labels, kind=kind, classes=classes, calibration="none", policy=policy).to_dict()
    fitted["thresholds"] = dict(zip(classes, thresholds, strict=True))
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return ImageClassifier(brightness_network(slopes, offsets), recipe, rule_from_dict(fitted), {"task": kind})


def half_lit(grey: int) -> bytes:
    """An image of two halves, whose mean is ``grey``."""
    image = np.full((64, 64), grey - 10, np.uint8)
    image[:, 32:] = grey + 10
    return cv2.imencode(".png", image)[1].tobytes()


def test_probability_and_decision_are_those_of_the_network_and_the_rule(classifier: ImageClassifier) -> None:
    table = classifier.score([half_lit(51), half_lit(204)])
    np.testing.assert_allclose(table.probability, [0.2, 0.8], atol=1e-6)
    assert table.decision.tolist() == ["nofinding", "effusion"]
    assert table.threshold.tolist() == [0.5, 0.5]
    assert table.status.tolist() == ["scored", "scored"]
    assert table.reason.isna().all()


def test_a_bad_image_does_not_fail_the_others(classifier: ImageClassifier) -> None:
    table = classifier.score([half_lit(51), b"no image", half_lit(204), b""])
    assert table.status.tolist() == ["scored", "refused", "scored", "refused"]
    assert table.reason.fillna("").tolist() == ["", "unreadable", "", "empty"]
    assert table.probability.isna().tolist() == table.decision.isna().tolist() == [False, True, False, True]
    np.testing.assert_allclose(table.probability[2], 0.8, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "grey", "probabilities", "decision"),
    [
        ("multiclass", 51, [0.2, 0.6, 0.2], "Nodule"),
        ("multiclass", 204, [0.8, 0.15, 0.05], "No Finding"),
        ("multilabel", 51, [0.2, 0.1], "none"),
        ("multilabel", 153, [0.6, 0.3], "Edema"),
        ("multilabel", 204, [0.8, 0.4], "Edema|Pleural_Thickening"),
    ],
)
def test_several_outputs_have_a_probability_and_a_threshold_each(
    kind: str, grey: int, probabilities: list[float], decision: str
) -> None:
    table = with_several_outputs(kind).score([half_lit(grey), b"no image"])
    rule = with_several_outputs(kind).decision_rule
    names = [f"probability_{name}" for name in rule.classes]
    thresholds = [f"threshold_{name}" for name in rule.classes]
    assert table.columns.tolist() == [*names, "decision", *thresholds, "status", "reason"]
    np.testing.assert_allclose(table[names], [probabilities, [np.nan] * len(names)], atol=1e-6)
    assert table[thresholds].to_numpy().tolist() == [list(rule.thresholds.values())] * 2
    assert table.decision.fillna("").tolist() == [decision, ""]
    assert table.status.tolist() == ["scored", "refused"]
    assert table.reason.fillna("").tolist() == ["", "unreadable"]


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("contents", [[], [b"no image"]])
def test_columns_do_not_depend_on_the_images(kind: str, contents: list[bytes]) -> None:
    table, usual = (with_several_outputs(kind).score(images) for images in (contents, [half_lit(51)]))
    assert len(table) == len(contents)
    assert table.dtypes.to_dict() == usual.dtypes.to_dict()
    assert table.columns.tolist() == usual.columns.tolist()


def test_names_of_probability_columns() -> None:
    assert probability_columns(("effusion",)) == ["probability"]
    assert probability_columns(("probability", "Mass")) == ["probability_probability", "probability_Mass"]


def dicom(**elements: str) -> bytes:
    """A slice that comes with pydicom, with some of its elements changed."""
    content = io.BytesIO()
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for name, value in elements.items():
        setattr(image, name, value)
    image.save_as(content)
    return content.getvalue()


def test_a_dicom_image_is_scored_if_its_header_says_chest(classifier: ImageClassifier) -> None:
    chest = dicom(Modality="DX", BodyPartExamined="CHEST")
    table = classifier.score([dicom(), chest, dicom(Modality="DX", BodyPartExamined="LEG"), chest[:1000]])
    assert table.status.tolist() == ["refused", "scored", "refused", "refused"]
    assert table.reason.fillna("").tolist()[:3] == ["not_chest", "", "not_chest"]
    assert table.probability[1] == pytest.approx(classifier.recipe.prepare(chest).mean() / 255, abs=1e-6)


def test_a_larger_image_than_the_recipe_allows_is_refused(classifier: ImageClassifier) -> None:
    image = cv2.imencode(".png", np.eye(1100, dtype=np.uint8))[1].tobytes()
    assert classifier.score([image]).reason.tolist() == ["too_large"]


def test_a_classifier_of_another_task_is_an_error(classifier: ImageClassifier) -> None:
    classifier.check_classes("binary", ("nofinding", "effusion"), key="effusion.scoring.model")
    with pytest.raises(UserError, match=r"effusion\.scoring\.model is binary, .* nofinding, effusion; .*pneumonia"):
        classifier.check_classes("binary", ("normal", "pneumonia"), key="effusion.scoring.model")
    with pytest.raises(UserError, match=r"is binary, .* expected multilabel"):
        classifier.check_classes("multilabel", ("nofinding", "effusion"), key="effusion.scoring.model")


@settings(max_examples=15, deadline=None)
@given(greys=st.lists(st.none() | st.integers(0, 255), max_size=9), batch_size=st.integers(1, 5))
def test_the_score_of_an_image_does_not_depend_on_the_batch(
    classifier: ImageClassifier, greys: list[int | None], batch_size: int
) -> None:
    prepared = [
        ImageRefused("unreadable", "") if grey is None else np.full((SIZE, SIZE), grey, np.uint8) for grey in greys
    ]
    batches = [prepared[start : start + batch_size] for start in range(0, len(prepared), batch_size)]
    table = pd.concat([classifier.score_batch(batch) for batch in batches or [[]]])
    expected = np.array([np.nan if grey is None else grey / 255 for grey in greys])
    np.testing.assert_allclose(table.probability, expected, atol=1e-6)
    assert table.reason.fillna("").tolist() == ["unreadable" if grey is None else "" for grey in greys]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_loaded_classifier_scores_as_the_saved_one(kind: str, classifier: ImageClassifier, tmp_path: Path) -> None:
    classifier = classifier if kind == "binary" else with_several_outputs(kind)
    classifier.save(tmp_path / "saved")
    loaded = ImageClassifier.load(tmp_path / "saved")
    images = [half_lit(grey) for grey in (40, 120, 200)]
    assert loaded.score(images).equals(classifier.score(images))
    assert loaded.digest == classifier.digest
    assert loaded.provenance == classifier.provenance
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["classifier.json", "model.keras"]


def test_the_state_of_the_optimiser_is_not_saved(classifier: ImageClassifier, tmp_path: Path) -> None:
    network = brightness_network()
    network.compile("adam", "mse")
    network.train_on_batch(np.ones((2, SIZE, SIZE, 1)), np.ones((2, 1)))
    network.save(tmp_path / "whole.keras")
    replace(classifier, model=network).save(tmp_path / "saved")

    def weights(path: Path) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read("model.weights.h5")

    assert b"optimizer" in weights(tmp_path / "whole.keras")
    assert b"optimizer" not in weights(tmp_path / "saved" / "model.keras")


def test_the_digest_depends_on_everything_that_decides_a_probability(classifier: ImageClassifier) -> None:
    brighter = brightness_network(slopes=(2.0,))
    other_recipe = Recipe(size=SIZE, mode="fit", max_megapixels=1.0)
    digests = {
        classifier.digest,
        replace(classifier, model=brighter).digest,
        replace(classifier, recipe=other_recipe).digest,
        replace(classifier, decision_rule=rule(0.6)).digest,
        replace(classifier, decision_rule=rule(0.5, calibration="platt")).digest,
    }
    assert len(digests) == 5
    same = replace(classifier, model=brightness_network(), provenance={"task": "other"})
    assert same.digest == classifier.digest


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_the_digest_depends_on_thresholds_and_names_of_outputs(kind: str) -> None:
    judge = with_several_outputs(kind)
    before = json.dumps(judge.decision_rule.to_dict())
    changes = {name: before.replace(f'"{name}"', f'"{name} too"') for name in judge.decision_rule.classes}
    for name in judge.decision_rule.classes:
        values = judge.decision_rule.to_dict()
        values["thresholds"] = {**values["thresholds"], name: 0.9}
        changes[f"threshold of {name}"] = json.dumps(values)
    rules = [rule_from_dict(json.loads(text)) for text in (before, *changes.values())]
    digests = [replace(judge, decision_rule=rule).digest for rule in rules]
    assert digests[0] == judge.digest
    assert len(set(digests)) == 1 + len(changes)


def test_changed_files_are_not_loaded(classifier: ImageClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    file = tmp_path / "saved" / "classifier.json"
    settings = json.loads(file.read_text())
    settings["decision_rule"]["thresholds"]["effusion"] = 0.1
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"changed since: expected the digest [0-9a-f]{64}, found [0-9a-f]{64}"):
        ImageClassifier.load(tmp_path / "saved")


def test_code_in_a_model_file_is_not_run(classifier: ImageClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    image = keras.Input((SIZE, SIZE, 1))
    harmful = keras.Model(image, keras.layers.Lambda(lambda x: x[:, 0, 0])(image))
    harmful.save(tmp_path / "saved" / "model.keras", overwrite=True)
    with pytest.raises(ValueError, match=r"[Ll]ambda"):
        ImageClassifier.load(tmp_path / "saved")
