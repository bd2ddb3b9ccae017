import json

import numpy as np
import pandas as pd
import pytest
from random_scores import decided_table, draw_classes, draw_labels
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.evaluation.evaluate import (
    MACRO,
    classification_report,
    cross_validation,
    evaluate,
    evaluate_policies,
    evaluate_sources,
    images_digest,
)
from cxr_pipeline.evaluation.intervals import UNDEFINED, measure_mean
from cxr_pipeline.evaluation.metrics import METRICS, SortedImages
from cxr_pipeline.evaluation.score_tables import columns_of, decide

BOOTSTRAP = {"replicates": 100, "confidence": 0.95, "seed": 1}
OPTIONS = {"outputs": ("effusion",), "exclusive": False, "bootstrap": BOOTSTRAP}
NAMES = ("a", "b", "c")


def measured(images, patients=None, *, exclusive=False, outputs=NAMES, confidence=0.95):
    """Evaluate labels, probabilities and decisions [n, 3]."""
    y_true, probability, predicted = images
    ids = pd.Series([None] * len(y_true) if patients is None else patients, dtype="str")
    table = decided_table(y_true, probability, outputs, predicted=predicted, patient_id=ids)
    intervals = {"replicates": 400, "confidence": confidence, "seed": 3}
    return evaluate(table, outputs=outputs, exclusive=exclusive, bootstrap=intervals)


def patients_of_three(n_images):
    return np.array([f"p{number // 3:03}" for number in range(n_images)], dtype=object)


def values_of(metrics):
    return {name: interval["value"] for name, interval in metrics.items()}


def draw_table(seed):
    """Draw a score table of a binary task, with two images per patient and two sources."""
    rng = np.random.default_rng(seed)
    y_true = (rng.random((90, 1)) < 0.4).astype(float)
    source, patients = np.where(np.arange(90) % 3, "adults", "children"), (np.arange(90) // 2).astype(str)
    score = np.clip(0.3 * y_true + 0.7 * rng.random((90, 1)), 0, 1)
    return decided_table(y_true, score, ("effusion",), source=source, patient_id=patients)


def test_a_binary_task_has_one_prevalence_and_the_metrics_of_its_output():
    table = draw_table(0)
    found = evaluate(table, **OPTIONS)
    assert found["prevalence"] == pytest.approx(table["true_effusion"].mean())
    assert found["metrics"] == found["per_class"]["effusion"]
    assert (found["n_images"], found["intervals"]["clustered_by"]) == (90, "patient")
    assert found["n_patients"] == (table["source"] + table["patient_id"]).nunique()
    assert "majority" not in found
    json.dumps(found, allow_nan=False)
    unknown = evaluate(table.assign(patient_id=pd.Series([None] * 90, dtype="str")), **OPTIONS)
    assert (unknown["n_patients"], unknown["intervals"]["clustered_by"]) == (None, "image")


def test_exclusive_classes_are_compared_with_the_most_frequent_one():
    outputs, y_true = ("normal", "mass", "nodule"), np.eye(3)[[0, 1, 1, 2] * 15]
    found = evaluate(
        decided_table(y_true, 0.1 + 0.7 * y_true, outputs), outputs=outputs, exclusive=True, bootstrap=BOOTSTRAP
    )
    assert found["majority"] == {"class": "mass", "accuracy": 0.5}
    assert found["prevalence"] == {"normal": 0.25, "mass": 0.5, "nodule": 0.25}


def test_each_source_is_evaluated_on_its_own():
    table = draw_table(0)
    children = table[table["source"] == "children"]
    found = evaluate_sources(table, **OPTIONS)["per_source"]
    assert set(found) == {"children", "adults"}
    alone = evaluate(children, **OPTIONS)
    assert found["children"] == {name: alone[name] for name in ("n_images", "metrics", "per_class")}
    assert evaluate_sources(children, **OPTIONS) == {}


def test_other_policies_are_evaluated_beside_the_chosen_one():
    test, validation = draw_table(0), draw_table(1)
    images = (columns_of(validation, prefix, ("effusion",)) for prefix in ("true", "score"))
    options = {"kind": "binary", "classes": ("nofinding", "effusion"), "calibration": "none"}
    rule = fit_decision_rule(*images, **options, policy={"rule": "youden"})
    policies = [{"rule": "fixed", "value": 0.3}, {"rule": "fixed", "value": 0.5}]
    metrics = evaluate(test, **OPTIONS)["metrics"]

    chosen, low, high = evaluate_policies(validation, test, rule, policies, chosen=metrics, **OPTIONS)["policies"]

    assert [chosen["chosen"], low["chosen"], high["chosen"]] == [True, False, False]
    assert chosen["metrics"] == metrics
    assert (low["policy"], low["thresholds"]) == (policies[0], {"effusion": 0.3})
    assert low["metrics"]["sensitivity"]["value"] > high["metrics"]["sensitivity"]["value"]
    assert low["metrics"]["auc"] == high["metrics"]["auc"]
    assert evaluate_policies(validation, test, rule, [], chosen=metrics, **OPTIONS) == {}


def test_the_training_images_of_an_ensemble_are_evaluated_together_and_by_member():
    table = draw_table(0).assign(member=np.arange(90) % 3 + 1)
    images = (columns_of(table, prefix, ("effusion",)) for prefix in ("true", "score"))
    options = {"kind": "binary", "classes": ("nofinding", "effusion"), "calibration": "platt"}
    rule = fit_decision_rule(*images, **options, policy={"rule": "youden"})
    found = cross_validation(table, rule, **OPTIONS)["cross_validation"]
    together = evaluate(decide(table, rule), **OPTIONS)
    assert (found["folds"], found["n_images"], found["n_patients"]) == (3, 90, together["n_patients"])
    assert found["metrics"] == {name: together["metrics"][name] for name in ("auc", "average_precision")}
    aucs = [roc_auc_score(rows["true_effusion"], rows["score_effusion"]) for _, rows in table.groupby("member")]
    assert found["auc_of_members"] == pytest.approx(aucs)
    assert cross_validation(table.assign(member=1), rule, **OPTIONS) == {}


def test_the_digest_depends_on_images_and_labels_alone():
    outputs = ("mass", "edema")
    table = pd.DataFrame({"sha256": list("abc"), "true_mass": [0, 1, np.nan], "true_edema": [1.0, 0, 0]})
    digest = images_digest(table, outputs)
    assert len(digest) == 64
    assert images_digest(table.iloc[[2, 0, 1]].assign(score_mass=0.5), outputs[::-1]) == digest
    changed = [table.assign(true_mass=labels) for labels in ([1, 1, np.nan], [0, np.nan, np.nan], [0, 1, 0])]
    others = [images_digest(each, outputs) for each in (*changed, table[1:], table.assign(sha256=list("abd")))]
    others.append(images_digest(table, ["mass"]))
    others.append(images_digest(table.rename(columns={"true_mass": "true_nodule"}), ["nodule", "edema"]))
    assert len({digest, *others}) == len(others) + 1


def test_the_report_has_the_metrics_of_each_output_and_their_mean():
    images = draw_labels(80)
    images[0][:, 2] = 0
    metrics = measured(images)
    report = classification_report(metrics).set_index("class")
    assert report["support"].to_dict() == {
        **dict(zip(NAMES, np.nansum(images[0], axis=0), strict=True)),
        MACRO: np.nansum(images[0]),
    }
    measures = report.drop(columns="support")
    assert measures.loc["a"].to_dict() == {name: metrics["per_class"]["a"][name]["value"] for name in measures}
    assert measures.loc["c", ["sensitivity", "auc"]].isna().all()
    np.testing.assert_allclose(measures.loc[MACRO], measures.loc[list(NAMES)].mean())
    alone = classification_report(measured([part[:, :1] for part in images], outputs=("a",)))
    assert alone["class"].tolist() == ["a"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_intervals_contain_the_value_and_grow_with_confidence(exclusive):
    images = draw_classes(300, seed=1) if exclusive else draw_labels(300, seed=1)
    wide, narrow = (
        measured(images, patients_of_three(300), exclusive=exclusive, confidence=confidence)["metrics"]
        for confidence in (0.95, 0.5)
    )
    for name in METRICS:
        assert 0 <= wide[name]["low"] < wide[name]["value"] < wide[name]["high"] <= 1, name
        assert wide[name]["low"] <= narrow[name]["low"] < narrow[name]["high"] <= wide[name]["high"], name


def test_each_output_has_the_metrics_of_its_known_images():
    images = draw_labels(150)
    found = measured(images)
    for column, name in enumerate(NAMES):
        values = SortedImages(*(part[:, column] for part in images)).replicate(np.ones((1, 150)))
        assert values_of(found["per_class"][name]) == pytest.approx({metric: values[metric][0] for metric in METRICS})
        known = images[0][~np.isnan(images[0][:, column]), column]
        n_known, n_positive = len(known), int(known.sum())
        sides = {"positive": n_positive, "negative": n_known - n_positive}
        counts = {"n_known": n_known, "n_positive": n_positive, "patients": sides, "effective_patients": sides}
        assert found["support"][name] == counts


def test_means_are_over_the_outputs_for_which_a_metric_is_defined():
    images = draw_labels(150)
    images[0][:, 1:] = 0, 1
    found = measured(images)
    per_class = pd.DataFrame(map(values_of, found["per_class"].values()), dtype=float)
    undefined = {"auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity"}
    assert set(per_class.columns[per_class.isna().any()]) == undefined
    assert None not in (found["per_class"]["b"]["specificity"]["low"], found["per_class"]["c"]["sensitivity"]["low"])
    assert values_of(found["metrics"]) == pytest.approx(per_class.mean().to_dict(), abs=1e-12)


def test_exclusive_classes_have_the_accuracy_of_scikit_learn_and_the_interval_of_a_mean():
    y_true, probability, _ = draw_classes(200)
    # The third class occurs neither in the labels nor in the decisions.
    y_true, probability = (part[y_true[:, 2] == 0] for part in (y_true, probability))
    predicted, patients = np.eye(3)[probability[:, :2].argmax(axis=1)] == 1, patients_of_three(len(y_true))
    numbers = y_true.argmax(axis=1), predicted.argmax(axis=1)

    metrics = measured((y_true, probability, predicted), patients, exclusive=True)["metrics"]

    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(*numbers))
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(*numbers))
    assert metrics["sensitivity"] == metrics["balanced_accuracy"]
    assert measure_mean(numbers[0] == numbers[1], patients, confidence=0.95) == pytest.approx(metrics["accuracy"])


def test_images_without_known_labels_are_left_out_with_their_patients():
    images = draw_labels(90)
    expected = measured([part[:60] for part in images], patients_of_three(60))
    images[0][60:] = np.nan
    found = measured(images, patients_of_three(90))
    assert all(found[name] == expected[name] for name in ("metrics", "per_class", "support", "prevalence"))


@pytest.mark.filterwarnings("error")
def test_without_images_labels_or_enough_patients_there_is_no_interval_of_the_auc():
    images = draw_labels(90, unknown=0)
    images[0][:, 1] = np.nan
    images[0][:, 2] = [0, 1, 1] + [np.nan] * 87

    found = measured(images, patients_of_three(90))

    nothing = [part[:0] for part in images]
    for exclusive in (False, True):
        without = measured(nothing, exclusive=exclusive)["metrics"]
        assert all(interval == UNDEFINED for interval in without.values())
    none = {"positive": 0, "negative": 0}
    assert found["support"]["b"] == {"n_known": 0, "n_positive": 0, "patients": none, "effective_patients": none}
    assert all(interval == UNDEFINED for interval in found["per_class"]["b"].values())
    auc = {name: metrics["auc"] for name, metrics in found["per_class"].items()}
    assert auc["c"] == {"value": auc["c"]["value"], "low": None, "high": None, "too_few_patients": 1}
    assert found["per_class"]["c"]["sensitivity"]["low"] < 0.1
    # The mean includes the interval of a class with too few patients, which is wide.
    assert found["metrics"]["auc"]["low"] < auc["a"]["low"]
    assert found["metrics"]["auc"]["value"] == pytest.approx((auc["a"]["value"] + auc["c"]["value"]) / 2)


@pytest.mark.parametrize("n_positive", [1, 2, 5, 40])
def test_no_interval_shrinks_to_a_point_if_all_decisions_are_correct(n_positive):
    y_true = np.repeat([1.0, 0.0], [n_positive, 40])[:, None]
    found = measured((y_true, 0.2 + 0.6 * y_true, y_true == 1), outputs=("a",))["metrics"]
    ranked = {name: found.pop(name) for name in ("auc", "average_precision")}
    assert (found["ece"]["value"], found.pop("ece")["low"]) == (pytest.approx(0.2), pytest.approx(0.2))
    for name, interval in found.items():
        assert interval["high"] - interval["low"] > 1 / (3 * (n_positive + 40)), name
    assert found["sensitivity"]["low"] == pytest.approx(
        min(n_positive / (n_positive + 1.96**2), 0.05 ** (1 / n_positive)), abs=1e-3
    )
    for interval in ranked.values():
        if n_positive < 5:
            assert interval == {"value": 1, "low": None, "high": None, "too_few_patients": n_positive}
        else:
            assert interval["low"] < 0.97 and interval["value"] == interval["high"] == 1


def test_the_interval_of_a_calibration_error_contains_it_although_that_of_replicates_is_larger():
    y_true = np.tile([1.0, 0.0], 60)[:, None]
    found = measured((y_true, np.full((120, 1), 0.5), y_true == 1), outputs=("a",))["metrics"]["ece"]
    assert found["value"] == found["low"] == 0 < found["high"]


def test_a_patient_with_most_images_makes_intervals_wide():
    images = draw_labels(400, seed=2, unknown=0)
    patients = np.array([f"p{number:03}" for number in range(400)], dtype=object)
    spread = measured(images, patients)["metrics"]
    patients[:300] = "one"
    together = measured(images, patients)
    assert together["support"]["a"]["patients"]["positive"] > 20
    assert 1 < together["support"]["a"]["effective_patients"]["positive"] < 2
    for name in METRICS[:-1]:
        width, before = (found[name]["high"] - found[name]["low"] for found in (together["metrics"], spread))
        assert width > 1.5 * before, name
