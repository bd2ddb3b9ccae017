import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scores import draw_classes, draw_labels
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cxr_pipeline.evaluation import bootstrap
from cxr_pipeline.evaluation.measure import measure, measure_mean
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics
from cxr_pipeline.evaluation.score_tables import Scores

BOOTSTRAP = {"replicates": 400, "confidence": 0.95, "seed": 3}
NAMES = ("a", "b", "c")
UNDEFINED = {"value": None, "low": None, "high": None}


def patients_of_three(n_images):
    return np.array([f"p{number // 3:03}" for number in range(n_images)], dtype=object)


def measured(images, patients=None, *, exclusive=False, outputs=NAMES, **options):
    return measure(Scores(tuple(outputs), *images), patients, exclusive=exclusive, **{**BOOTSTRAP, **options})


def mean_of(values, patients=None, **options):
    return measure_mean(values, patients, confidence=0.95, **options)


def values_of(metrics):
    return {name: interval["value"] for name, interval in metrics.items()}


@pytest.mark.parametrize("grouped", [False, True])
def test_order_of_images_and_size_of_chunks_do_not_matter(monkeypatch, grouped):
    images, patients = draw_labels(90), np.where(np.arange(90) % 5 * grouped, patients_of_three(90), None)
    expected, order = measured(images, patients)["metrics"], np.random.default_rng(5).permutation(90)
    monkeypatch.setattr(bootstrap, "CHUNK", 90 * 7)
    found = measured([part[order] for part in images], patients[order])["metrics"]
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-12), name


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
        assert values_of(found["per_class"][name]) == binary_metrics(*(part[:, column] for part in images))
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
    assert mean_of(numbers[0] == numbers[1], patients) == pytest.approx(metrics["accuracy"])


def test_images_without_known_labels_are_left_out_with_their_patients():
    images = draw_labels(90)
    expected = measured([part[:60] for part in images], patients_of_three(60))
    images[0][60:] = np.nan
    assert measured(images, patients_of_three(90)) == expected


@pytest.mark.filterwarnings("error")
def test_outputs_without_known_labels_or_with_few_patients_have_no_interval_of_the_auc():
    images = draw_labels(90, unknown=0)
    images[0][:, 1] = np.nan
    images[0][:, 2] = [0, 1, 1] + [np.nan] * 87

    found = measured(images, patients_of_three(90))

    none = {"positive": 0, "negative": 0}
    assert found["support"]["b"] == {"n_known": 0, "n_positive": 0, "patients": none, "effective_patients": none}
    assert all(interval == UNDEFINED for interval in found["per_class"]["b"].values())
    auc = {name: metrics["auc"] for name, metrics in found["per_class"].items()}
    assert auc["c"] == {"value": auc["c"]["value"], "low": None, "high": None, "too_few_patients": 1}
    assert found["per_class"]["c"]["sensitivity"]["low"] < 0.1
    # The mean includes the interval of a class with too few patients, which is wide.
    assert found["metrics"]["auc"]["low"] < auc["a"]["low"]
    assert found["metrics"]["auc"]["value"] == pytest.approx((auc["a"]["value"] + auc["c"]["value"]) / 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exclusive", [False, True])
def test_without_images_every_metric_is_undefined(exclusive):
    found = measured((np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), bool)), exclusive=exclusive)
    assert all(interval == UNDEFINED for interval in found["metrics"].values())


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


def test_a_patient_with_most_images_makes_intervals_wide():
    images = draw_labels(400, seed=2, unknown=0)
    patients = np.array([f"p{number:03}" for number in range(400)], dtype=object)
    spread = measured(images, patients)
    patients[:300] = "one"
    together = measured(images, patients)
    support = together["support"]["a"]
    assert support["patients"]["positive"] > 20 > 2 > support["effective_patients"]["positive"] > 1
    for name in METRICS[:-1]:
        width, before = (found["metrics"][name]["high"] - found["metrics"][name]["low"] for found in (together, spread))
        assert width > 1.5 * before, name


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_and_unknown_values_do_not_change_a_mean(values, random):
    shuffled = [*values, np.nan, np.nan]
    random.shuffle(shuffled)
    found = mean_of(shuffled)
    assert found == pytest.approx(mean_of(values), abs=1e-9)
    moved = mean_of([2 * value - 1 for value in values], smallest=-1)
    assert moved == pytest.approx({name: 2 * end - 1 for name, end in found.items()}, abs=1e-6)


def test_a_mean_of_nothing_has_no_interval_and_that_of_one_patient_is_wide():
    assert mean_of([]) == mean_of([np.nan]) == UNDEFINED
    one = mean_of([0, 1, np.nan], ["a", "a", "b"])
    assert one["value"] == 0.5 and one["high"] - one["low"] > 0.85
