import functools
import json
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from stub_models import fixed_rule, grey_network

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.evaluation.decision_rule import rule_from_dict

SIZE = 16
RECIPE = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)


def grey_image(grey):
    return np.full((SIZE, SIZE), grey, np.uint8)


@functools.cache
def with_several_outputs(kind):
    """A classifier with thresholds that differ: of exclusive classes, or of findings that may come together."""
    classes, slopes, offsets, thresholds = {
        "multiclass": (("No Finding", "Mass", "Nodule"), (1.0, -0.75, -0.25), (0.0, 0.75, 0.25), (0.5, 0.375, 0.0625)),
        "multilabel": (("Edema", "Pleural_Thickening"), (1.0, 0.5), (0.0, 0.0), (0.25, 0.375)),
    }[kind]
    # Scores are straight lines over the mean grey, as a fraction of white.
    image = keras.Input((SIZE, SIZE, 1), name="image")
    lines = keras.layers.Dense(len(slopes))
    network = keras.Model(image, lines(keras.layers.GlobalAveragePooling2D()(image)))
    lines.set_weights([np.array([slopes], np.float32) / 255, np.array(offsets, np.float32)])
    values = fixed_rule(classes, kind).to_dict()
    values["thresholds"] = dict(zip(classes, thresholds, strict=True))
    return ImageClassifier(network, RECIPE, rule_from_dict(values), {"task": kind})


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
def test_several_outputs_have_a_probability_and_a_threshold_each(kind, grey, probabilities, decision):
    classifier, images = with_several_outputs(kind), [grey_image(grey), ImageRefused("unreadable", "")]
    table, rule = classifier.score_batch(images), classifier.decision_rule
    names = [f"probability_{name}" for name in rule.classes]
    thresholds = [f"threshold_{name}" for name in rule.classes]
    assert table.columns.tolist() == [*names, "decision", *thresholds, "status", "reason"]
    np.testing.assert_allclose(table[names], [probabilities, [np.nan] * len(names)], atol=1e-6)
    assert table[thresholds].to_numpy().tolist() == [list(rule.thresholds.values())] * 2
    assert table.decision.fillna("").tolist() == [decision, ""]
    for part in (images[:0], images[1:]):
        assert classifier.score_batch(part).dtypes.to_dict() == table.dtypes.to_dict()


@pytest.mark.parametrize(
    ("kind", "classes"), [("binary", ("normal", "pneumonia")), ("multilabel", ("nofinding", "effusion"))]
)
def test_a_classifier_of_another_task_is_an_error(classifier, kind, classes):
    classifier.check_classes("binary", ("nofinding", "effusion"), model="The model named by effusion.scoring.model")
    with pytest.raises(UserError, match=r"effusion\.scoring\.model is binary, .* nofinding, effusion"):
        classifier.check_classes(kind, classes, model="The model named by effusion.scoring.model")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_loaded_classifier_scores_as_the_saved_one(kind, classifier, tmp_path):
    classifier = classifier if kind == "binary" else with_several_outputs(kind)
    classifier.save(tmp_path / "saved")
    loaded = ImageClassifier.load(tmp_path / "saved")
    images = [grey_image(grey) for grey in (40, 120, 200)]
    assert loaded.score_batch(images).equals(classifier.score_batch(images))
    assert loaded.digest == classifier.digest
    assert loaded.provenance == classifier.provenance
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["classifier.json", "model.keras"]


def test_the_state_of_the_optimiser_is_not_saved(classifier, tmp_path):
    network = grey_network(SIZE)
    network.compile("adam", "mse")
    network.train_on_batch(np.ones((2, SIZE, SIZE, 1)), np.ones((2, 1)))
    network.save(tmp_path / "whole.keras")
    replace(classifier, model=network).save(tmp_path / "saved")
    files = [tmp_path / "whole.keras", tmp_path / "saved" / "model.keras"]
    assert [b"optimizer" in zipfile.ZipFile(file).read("model.weights.h5") for file in files] == [True, False]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_digest_depends_on_everything_that_affects_a_probability(kind, classifier):
    classifier = classifier if kind == "binary" else with_several_outputs(kind)
    same = replace(classifier, provenance={"task": "other"})
    values = classifier.decision_rule.to_dict()
    rules = []
    for name in classifier.decision_rule.outputs:
        rules.append(json.loads(json.dumps(values).replace(f'"{name}"', f'"{name} too"')))
        rules.append({**values, "thresholds": {**values["thresholds"], name: 0.9}})
    others = [
        replace(classifier, model=grey_network(SIZE, 2.0)),
        replace(classifier, recipe=replace(RECIPE, mode="fit")),
        replace(classifier, decision_rule=fixed_rule(calibration="platt")),
        *(replace(classifier, decision_rule=rule_from_dict(rule)) for rule in rules),
    ]
    assert same.digest == classifier.digest
    assert len({classifier.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_changed_files_are_not_loaded(classifier, tmp_path):
    classifier.save(tmp_path / "saved")
    file = tmp_path / "saved" / "classifier.json"
    settings = json.loads(file.read_text())
    settings["decision_rule"]["thresholds"]["effusion"] = 0.1
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"changed since: expected the digest [0-9a-f]{64}, found [0-9a-f]{64}"):
        ImageClassifier.load(tmp_path / "saved")


def test_code_in_a_model_file_is_not_run(classifier, tmp_path):
    classifier.save(tmp_path / "saved")
    image = keras.Input((SIZE, SIZE, 1))
    harmful = keras.Model(image, keras.layers.Lambda(lambda x: x[:, 0, 0])(image))
    harmful.save(tmp_path / "saved" / "model.keras", overwrite=True)
    with pytest.raises(ValueError, match=r"[Ll]ambda"):
        ImageClassifier.load(tmp_path / "saved")
