import json
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest
from phantom_patients import concatenate, simulate

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.detection import FAMILIES, NewImages, detect_drift
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.paired_bootstrap import holm

NO_LIMITS = {name: {"warn": 0.0, "refuse": None} for name in FAMILIES}
TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)
N_CHECKS = 120
NO_DRIFT = dict.fromkeys(FAMILIES, "none")
fit = partial(ReferenceProfile.fit, outputs=("ill",), seed=0)


@pytest.fixture(scope="module")
def profile():
    return fit(simulate(300, 0), simulate(150, 1))


@pytest.fixture
def detect(profile, settings):
    def detect(new, profile=profile, **changes):
        limits = {**settings["limits"], **changes.pop("limits", {})}
        return detect_drift(profile, new, **{**settings, "limits": limits, **changes})

    return detect


def verdicts(report):
    return {family["name"]: family["verdict"] for family in report["families"]}


def family(report, name):
    return next(each for each in report["families"] if each["name"] == name)


def test_images_of_the_same_kind_do_not_drift(detect):
    report = detect(simulate(200, 2))
    assert (report["verdict"], verdicts(report)) == ("none", NO_DRIFT)
    assert report["sentence"] == "No drift was found in pixels, features, scores, prevalence, calibration."
    assert [len(each["tests"]) for each in report["families"]] == [11, 1, 1, 1, 2]
    tests = [test for each in report["families"] for test in each["tests"]]
    assert [test["p_holm"] for test in tests] == holm([test["p_value"] for test in tests])
    assert report == detect(simulate(200, 2)) == json.loads(json.dumps(report, allow_nan=False))


def test_each_family_detects_its_own_drift_only(detect):
    new = simulate(200, 2)
    noisy = new.statistics.copy()
    noisy[:, 6] += 8
    for changes, found in (
        ({"statistics": noisy}, {"pixels": "warn"}),
        ({"features": new.features + np.float32(1.2)}, {"features": "refuse"}),
        ({"y_true": 1 - new.y_true}, {"calibration": "refuse"}),
    ):
        assert verdicts(detect(replace(new, **changes))) == {**NO_DRIFT, **found}
    noisy[:, 0] += 12
    noisy[:, 5] += 60
    assert detect(replace(new, statistics=noisy))["sentence"] == "Drift in pixels (sharpness, KS distance 1.00)."
    rng = np.random.default_rng(0)
    higher = rng.beta(3, 1, (200, 1))
    shifted = replace(new, probability=higher, y_true=(rng.random((200, 1)) < higher).astype(float))
    found = verdicts(detect(shifted))
    assert found == {**found, "scores": "refuse", "prevalence": "warn", "calibration": "none"}


def test_drift_needs_significance_and_effect(detect):
    large = simulate(5000, 2)
    slightly = replace(large, statistics=large.statistics + np.float32(1.5))
    pixels = family(detect(slightly, fit(simulate(5000, 4), simulate(150, 1))), "pixels")
    assert max(test["p_holm"] for test in pixels["tests"]) < 1e-4
    assert pixels["verdict"] == "none"
    features = family(detect(simulate(40, 3), limits={"features": {"warn": 0.3, "refuse": None}}), "features")
    assert features["tests"][0]["effect"] >= 0.3
    assert features["verdict"] == "none"


def test_a_limit_is_reached_at_its_value(detect):
    new = replace(simulate(200, 2), features=simulate(200, 2).features + np.float32(1.2))
    effect = family(detect(new), "features")["tests"][0]["effect"]
    for warn, refuse, expected in (
        (effect, None, "warn"),
        (effect, effect, "refuse"),
        (0.5, effect + 1e-9, "warn"),
        (effect + 1e-9, None, "none"),
    ):
        report = detect(new, limits={"features": {"warn": warn, "refuse": refuse}})
        assert family(report, "features")["verdict"] == report["verdict"] == expected


def test_too_few_images_give_no_verdict(detect):
    report = detect(replace(simulate(29, 2), statistics=np.full((29, 11), 500, np.float32)))
    assert (report["verdict"], verdicts(report)) == ("unknown", dict.fromkeys(FAMILIES, "unknown"))
    assert "300 reference images and 29 new images" in family(report, "pixels")["notes"][0]
    assert detect(simulate(30, 2))["verdict"] == "none"
    report = detect(simulate(0, 2))
    assert (report["verdict"], report["n_new"]) == ("unknown", 0)
    assert "no image could be read" in report["sentence"]
    json.dumps(report, allow_nan=False)


def test_new_images_are_compared_with_images_of_their_source(detect):
    """Two sources differ in machine and prevalence; all new images come from the smaller one."""

    def from_source(n, seed, source):
        rng = np.random.default_rng(seed)
        probability = rng.beta(*((5, 2) if source == "a" else (2, 5)), (n, 1))
        images = simulate(n, seed, source=source)
        statistics = images.statistics + np.float32(0 if source == "a" else 40)
        y_true = (rng.random((n, 1)) < probability).astype(float)
        return replace(images, statistics=statistics, probability=probability, y_true=y_true)

    profile = fit(
        *(concatenate(from_source(3 * n, seed, "a"), from_source(n, seed + 1, "b")) for n, seed in ((100, 0), (60, 2)))
    )
    new = from_source(80, 5, "b")
    report = detect(new, profile)
    assert verdicts(report) == NO_DRIFT, report["sentence"]
    assert family(report, "pixels")["tests"][0]["n_reference"] == 100
    unknown_source = detect(replace(new, source=np.full(80, "")), profile)
    assert (unknown_source["verdict"], verdicts(unknown_source)["prevalence"]) == ("refuse", "warn")
    assert family(unknown_source, "pixels")["tests"][0]["n_reference"] == 400
    changed = replace(new, statistics=new.statistics - np.float32(40))
    assert verdicts(detect(changed, profile))["pixels"] == "refuse"


@pytest.mark.parametrize(
    ("n_training", "n_held_out", "unknown"),
    [(100, 20, ("features", "scores", "calibration")), (20, 100, ("pixels", "prevalence"))],
)
def test_a_small_reference_affects_only_the_families_that_use_it(detect, n_training, n_held_out, unknown):
    report = detect(simulate(100, 2), fit(simulate(n_training, 0), simulate(n_held_out, 1)))
    assert verdicts(report) == {**NO_DRIFT, **dict.fromkeys(unknown, "unknown")}


def test_calibration_needs_images_of_both_classes(detect):
    new = simulate(200, 2)
    new.y_true[:] = 0
    new.y_true[:9] = 1
    calibration = family(detect(new), "calibration")
    assert calibration["verdict"] == "unknown"
    assert calibration["notes"] == ["ill: 9 images of the rarer class; 10 are needed."]
    new.y_true[:10] = 1
    assert family(detect(new), "calibration")["verdict"] == "refuse"


def test_unknown_labels_are_left_out(detect):
    new = simulate(200, 2)
    report = detect(replace(new, y_true=np.full_like(new.y_true, np.nan)))
    assert verdicts(report) == {**NO_DRIFT, "prevalence": "unknown", "calibration": "unknown"}
    assert report["verdict"] == "none"
    profile = fit(simulate(300, 0, k=2), simulate(150, 1, k=2), outputs=("a", "b"))
    new = simulate(200, 2, k=2)
    new.y_true[25:, 0] = np.nan
    new.y_true[150:, 1] = np.nan
    report = detect(new, profile)
    (prevalence,) = family(report, "prevalence")["tests"]
    assert (prevalence["name"], prevalence["n_new"]) == ("b", 150)
    assert {test["name"].split(",")[0] for test in family(report, "calibration")["tests"]} == {"b"}
    assert "a: 300 reference images and 25 new images" in family(report, "prevalence")["notes"][0]


def test_values_that_are_not_finite_are_left_out_and_counted(detect):
    new = simulate(100, 2)
    new.statistics[:5, 2] = np.nan
    new.features[:71, 1] = np.inf
    report = detect(new)
    assert report["verdict"] == "none"
    assert family(report, "pixels")["tests"][2]["n_new"] == 95
    for name, number in (("pixels", "shadows: 5"), ("features", "71")):
        assert f"{number} new images without a finite value" in family(report, name)["notes"][0]
    assert family(report, "features")["verdict"] == "unknown"
    json.dumps(report, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_rate_of_false_positives_is_at_most_alpha(phantoms, settings, alpha):
    rng = np.random.default_rng(0)
    probability = rng.beta(0.8, 0.8, phantoms.probability.shape)
    y_true = (rng.random(probability.shape) < probability).astype(float)
    labelled = replace(phantoms, probability=probability, y_true=y_true)
    rng = np.random.default_rng(int(100 * alpha))
    n_significant = n_drift = 0
    for _ in range(N_CHECKS):
        order = rng.permutation(len(labelled))
        training, validation, new = (labelled.take(order[part]) for part in (TRAIN, VALIDATION, NEW))
        profile = ReferenceProfile.fit(training, validation, outputs=("ill",), seed=0)
        checked = {**settings, "alpha": alpha}
        n_significant += detect_drift(profile, new, **{**checked, "limits": NO_LIMITS})["verdict"] == "warn"
        n_drift += detect_drift(profile, new, **checked)["verdict"] != "none"
    # Three standard errors above alpha. Holm's correction is conservative because the tests are dependent.
    assert 0 < n_significant / N_CHECKS <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / N_CHECKS)
    assert n_drift <= n_significant


SETTINGS = {"max_images": 100, "batch_size": 2, "seed": 0}


@pytest.fixture
def classifier(network, rule):
    return ImageClassifier(network, Recipe(size=48, mode="fit", max_megapixels=1), rule, {"images": "phantom"})


@pytest.fixture
def folder(images, tmp_path):
    names = ["ill/a_1", "ill/a_2", "ill/b_1", "well/c_1", "well/c_2", "other/d_1"]
    for name, image in zip(names, images, strict=False):
        path = tmp_path / "new" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    (tmp_path / "new" / "well" / "e_1.png").write_text("not an image")
    return tmp_path / "new"


def test_images_of_a_source_have_patients_and_labels(folder, classifier, images):
    options = {"patient_id": "^([a-z])_"}
    listing = LAYOUTS["class_folders"].read(folder, **options)
    labels = LabelMap({"well": ("well",), "ill": ("ill",)}, (), "unknown", exclusive=True)
    new = NewImages.from_listing(listing, LAYOUTS["class_folders"].reader(folder, unpacked=folder, **options), labels)
    features, counts = new.extract_features(classifier, **SETTINGS)
    assert (counts["images"], counts["left_out"], counts["without_patient"]) == (6, 1, 0)
    assert (counts["drawn"], counts["looked_at"]) == (4, 3)
    grey = images[:5].mean(axis=(1, 2))
    nearest = np.abs(features.statistics[:, :1] - grey).argmin(axis=1)
    assert features.y_true[:, 0].tolist() == [float(number < 3) for number in nearest]
    assert sorted(features.y_true[:, 0]) == [0, 1, 1]


def test_refused_images_do_not_shift_labels_and_sources(images, classifier):
    class Reader:
        def read(self, path):
            return b"" if path in "25" else cv2.imencode(".png", images[int(path)])[1].tobytes()

    rows = {
        "source": list("aababb"),
        "path": list("013425"),
        "patient_id": pd.Series([None] * 6, dtype="str"),
        "label_ill": [0.0, 1.0, 1.0, 0.0, np.nan, 1.0],
    }
    new = NewImages(dict.fromkeys("ab", Reader()), pd.DataFrame(rows))
    features, counts = new.extract_features(classifier, **SETTINGS)
    assert features.y_true[:, 0].tolist() == [0, 1, 1, 0]
    assert features.source.tolist() == list("aaba")
    assert counts["refused"] == {"empty": 2}
    np.testing.assert_allclose(features.statistics[:, 0], images[[0, 1, 3, 4]].mean(axis=(1, 2)), rtol=1e-5)


def test_the_number_of_images_is_limited(folder, classifier):
    new = NewImages.from_folder(str(folder), key="k")
    features, counts = new.extract_features(classifier, **{**SETTINGS, "max_images": 3})
    assert (len(features) + sum(counts["refused"].values()), counts["drawn"]) == (3, 3)
    assert (counts["images"], counts["without_patient"]) == (7, 7)
    assert np.isnan(features.y_true).all()
