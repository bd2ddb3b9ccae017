import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cxr_pipeline.evaluation import bootstrap
from cxr_pipeline.evaluation.bootstrap import bootstrap_mean, measure
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics

BOOTSTRAP = {"replicates": 400, "confidence": 0.95, "seed": 3}
NAMES = ("a", "b", "c")


def bootstrap_intervals(y_true, probability, threshold, groups, **options):
    """Lower and upper end of each metric of one output, NaN where undefined."""
    true, scores = np.asarray(y_true, dtype=float)[:, None], np.asarray(probability, dtype=float)[:, None]
    found = measure(true, scores, scores >= threshold, groups, outputs=("one",), exclusive=False, **options)
    assert found["metrics"] == found["per_class"]["one"]
    ends = {name: (each["low"], each["high"]) for name, each in found["metrics"].items()}
    return {name: tuple(np.nan if end is None else end for end in pair) for name, pair in ends.items()}


def at(y_true, probability, threshold=0.5):
    return binary_metrics(y_true, probability, np.asarray(probability) >= threshold)


def one_output(images):
    return images[0][:, None], images[1][:, None], images[1][:, None] >= 0.5


def draw_images(n_images, *, seed=0, shift=1.5, decimals=16):
    rng = np.random.default_rng(seed)
    y_true = (rng.random(n_images) < 0.4).astype(float)
    return y_true, np.round(1 / (1 + np.exp(0.6 - shift * y_true - rng.normal(size=n_images))), decimals)


@pytest.mark.parametrize("common", [0, 1])
def test_intervals_are_those_of_a_loop_over_resampled_patients(common):
    y_true, probability = draw_images(40, decimals=1)
    rng = np.random.default_rng(1)
    groups = np.array([f"p{number:02}" for number in rng.integers(0, 12, size=40)])
    y_true[~np.isin(groups, ("p03", "p05"))] = common
    ids = np.unique(groups)

    drawn = np.random.default_rng(3).integers(len(ids), size=(400, len(ids)))
    samples = [np.concatenate([np.flatnonzero(groups == ids[number]) for number in row]) for row in drawn]
    both = [images for images in samples if 0 < y_true[images].mean() < 1]
    assert 200 < len(both) < 380
    rows = [at(y_true[images], probability[images], 0.6) for images in both]

    found = bootstrap_intervals(y_true, probability, 0.6, groups, **BOOTSTRAP)
    for name in METRICS[:-1]:
        expected = np.nanquantile([row[name] for row in rows], (0.025, 0.975))
        assert found[name] == pytest.approx(tuple(expected), abs=1e-12), name


def test_auc_interval_is_as_wide_as_delong_says():
    y_true, probability = draw_images(2000)
    wins = (probability[y_true == 1][:, None] > probability[y_true == 0]).astype(float)
    variance = wins.mean(1).var(ddof=1) / wins.shape[0] + wins.mean(0).var(ddof=1) / wins.shape[1]

    low, high = bootstrap_intervals(y_true, probability, 0.5, None, replicates=1500, confidence=0.9, seed=0)["auc"]

    assert high - low == pytest.approx(2 * 1.645 * np.sqrt(variance), rel=0.1)


def test_copies_of_a_image_add_nothing_when_patients_are_drawn():
    y_true, probability = draw_images(300)
    copied = np.repeat(y_true, 4), np.repeat(probability, 4)
    width = lambda found: found["auc"][1] - found["auc"][0]  # noqa: E731

    single = width(bootstrap_intervals(y_true, probability, 0.5, None, **BOOTSTRAP))
    patients = width(bootstrap_intervals(*copied, 0.5, np.repeat(np.arange(300), 4), **BOOTSTRAP))
    images = width(bootstrap_intervals(*copied, 0.5, None, **BOOTSTRAP))

    assert patients == pytest.approx(single, rel=0.15)
    assert images == pytest.approx(single / 2, rel=0.15)


def test_distinct_and_missing_patients_are_images():
    images = draw_images(50)
    by_image = bootstrap_intervals(*images, 0.5, None, **BOOTSTRAP)

    assert bootstrap_intervals(*images, 0.5, [f"p{number}" for number in range(50)], **BOOTSTRAP) == by_image
    assert bootstrap_intervals(*images, 0.5, pd.array([None] * 50, dtype="string"), **BOOTSTRAP) == by_image


def test_image_without_patient_is_a_patient_of_its_own():
    images = draw_images(60)
    named = np.array([f"p{number:02}" for number in [0] * 20 + [1] * 20 + list(range(2, 22))], dtype=object)
    missing = named.copy()
    missing[40:] = None

    assert bootstrap_intervals(*images, 0.5, missing, **BOOTSTRAP) != bootstrap_intervals(
        *images, 0.5, None, **BOOTSTRAP
    )
    found, expected = (bootstrap_intervals(*images, 0.5, ids, **BOOTSTRAP)["auc"] for ids in (missing, named))
    assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("grouped", [False, True])
def test_rows_in_another_order_and_other_chunks_change_nothing(monkeypatch, grouped):
    y_true, probability = draw_images(90)
    groups = np.array([f"p{number // 3}" if number % 5 else None for number in range(90)]) if grouped else None
    expected = bootstrap_intervals(y_true, probability, 0.5, groups, **BOOTSTRAP)
    order = np.random.default_rng(5).permutation(90)
    monkeypatch.setattr(bootstrap, "CHUNK", 90 * 7)

    found = bootstrap_intervals(
        y_true[order], probability[order], 0.5, groups if groups is None else groups[order], **BOOTSTRAP
    )

    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-12)


def test_the_seed_decides():
    images = draw_images(80)

    first, again = (bootstrap_intervals(*images, 0.5, None, **BOOTSTRAP) for _ in range(2))

    assert first == again
    assert first != bootstrap_intervals(*images, 0.5, None, **{**BOOTSTRAP, "seed": 4})


@pytest.mark.parametrize("seed", range(8))
def test_intervals_hold_the_value_and_grow_with_confidence(seed):
    images = draw_images(250, seed=seed)
    values = at(*images)

    wide = bootstrap_intervals(*images, 0.5, None, **BOOTSTRAP)
    narrow = bootstrap_intervals(*images, 0.5, None, **{**BOOTSTRAP, "confidence": 0.5})

    for name in METRICS:
        assert 0 <= wide[name][0] < values[name] < wide[name][1] <= 1, name
        assert wide[name][0] <= narrow[name][0] < narrow[name][1] <= wide[name][1], name


def test_calibration_error_of_calibrated_images_reaches_down():
    rng = np.random.default_rng(0)
    probability = rng.random(500)
    y_true = (rng.random(500) < probability).astype(float)

    low, high = bootstrap_intervals(y_true, probability, 0.5, None, **BOOTSTRAP)["ece"]

    assert low < at(y_true, probability)["ece"] / 2 < high


def test_unknown_labels_leave_with_their_patients():
    y_true, probability = draw_images(60)
    groups = np.array([f"p{number // 2}" for number in range(60)])
    expected = bootstrap_intervals(y_true[:40], probability[:40], 0.5, groups[:40], **BOOTSTRAP)
    y_true[40:] = np.nan

    assert bootstrap_intervals(y_true, probability, 0.5, groups, **BOOTSTRAP) == expected


def test_one_class_keeps_what_is_defined():
    found = bootstrap_intervals(np.ones(30), np.linspace(0.2, 0.9, 30), 0.5, None, **BOOTSTRAP)

    undefined = {"auc", "average_precision", "balanced_accuracy", "specificity"}
    assert {name for name, (low, high) in found.items() if np.isnan([low, high]).all()} == undefined
    assert found["sensitivity"][0] < 17 / 30 < found["sensitivity"][1]


@pytest.mark.parametrize("y_true", [[], [0, 1, 1]])
def test_one_patient_has_no_interval(y_true):
    found = bootstrap_intervals(y_true, np.linspace(0.1, 0.9, len(y_true)), 0.5, ["a"] * len(y_true), **BOOTSTRAP)

    assert np.isnan(list(found.values())).all()


def draw_classes(n_images, *, seed=0):
    """One-hot labels, probabilities that sum to one, and the most probable class."""
    rng = np.random.default_rng(seed)
    y_true = np.eye(3)[rng.choice(3, size=n_images, p=(0.6, 0.3, 0.1))]
    raised = np.exp(1.5 * y_true + rng.normal(size=(n_images, 3)))
    probability = raised / raised.sum(axis=1, keepdims=True)
    return y_true, probability, np.eye(3)[probability.argmax(axis=1)] == 1


def draw_labels(n_images, *, seed=0, unknown=0.2):
    """Labels that may come together, some of them unknown."""
    columns = [draw_images(n_images, seed=3 * seed + place) for place in range(3)]
    y_true, probability = (np.column_stack([column[part] for column in columns]) for part in (0, 1))
    y_true[np.random.default_rng(seed).random((n_images, 3)) < unknown] = np.nan
    return y_true, probability, probability >= 0.4


def measure_all(images, groups=None, *, exclusive=False, outputs=NAMES, **options):
    return measure(*images, groups, outputs=outputs, exclusive=exclusive, **{**BOOTSTRAP, **options})


def patients(n_images):
    return np.array([f"p{number // 3:03}" for number in range(n_images)])


def values_of(measured):
    return {name: each["value"] for name, each in measured.items()}


def test_measure_is_valid_json():
    images = np.array([0, 0, 1, 1.0]), np.array([0.1, 0.2, 0.15, 0.3])
    measured = measure_all(one_output(images), outputs=("x",))

    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert list(measured["metrics"]) == list(METRICS)
    assert measured["metrics"]["auc"]["value"] == 0.75
    assert measured["metrics"]["precision"] == {"value": None, "low": None, "high": None}
    assert measured["support"] == {"x": {"n_known": 4, "n_positive": 2}}


@pytest.mark.parametrize("images", [draw_labels(150), draw_classes(150)], ids=["labels", "classes"])
def test_each_output_has_the_metrics_of_its_known_images(images):
    measured = measure_all(images)

    for place, name in enumerate(NAMES):
        expected = binary_metrics(*(part[:, place] for part in images))
        assert values_of(measured["per_class"][name]) == expected
        known = images[0][~np.isnan(images[0][:, place]), place]
        assert measured["support"][name] == {"n_known": len(known), "n_positive": int(known.sum())}


def test_mean_of_labels_is_over_those_where_a_metric_is_defined():
    y_true, probability, predicted = draw_labels(150)
    y_true[:, 1] = 0
    measured = measure_all((y_true, probability, predicted))
    per_class = [values_of(measured["per_class"][name]) for name in NAMES]

    for name, value in values_of(measured["metrics"]).items():
        defined = [each[name] for each in per_class if each[name] is not None]
        assert len(defined) == (2 if name in ("auc", "average_precision", "balanced_accuracy", "sensitivity") else 3)
        assert value == pytest.approx(np.mean(defined), abs=1e-12)


@pytest.mark.parametrize("classes", [3, 2])
def test_exclusive_classes_have_the_accuracy_of_scikit_learn(classes):
    y_true, probability, predicted = draw_classes(200)
    y_true, probability, predicted = (part[y_true[:, 2] <= classes - 2] for part in (y_true, probability, predicted))
    predicted &= [True, True, classes == 3]
    predicted[~predicted.any(axis=1), 0] = True
    numbers = y_true.argmax(axis=1), predicted.argmax(axis=1)

    values = values_of(measure_all((y_true, probability, predicted), exclusive=True)["metrics"])

    assert values["accuracy"] == pytest.approx(accuracy_score(*numbers))
    assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(*numbers))
    assert values["sensitivity"] == values["balanced_accuracy"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_mean_intervals_are_those_of_a_loop_over_resampled_patients(exclusive):
    y_true, probability, predicted = draw_classes(60) if exclusive else draw_labels(60)
    groups = np.array([f"p{number:02}" for number in np.random.default_rng(1).integers(0, 15, size=60)])
    ids = np.unique(groups)
    drawn = np.random.default_rng(3).integers(len(ids), size=(400, len(ids)))
    rows = []
    for row in drawn:
        images = np.concatenate([np.flatnonzero(groups == ids[number]) for number in row])
        both = [place for place in range(3) if {0, 1} <= set(y_true[images, place])]
        each = [
            binary_metrics(y_true[images, place], probability[images, place], predicted[images, place])
            for place in both
        ]
        mean = {name: np.nanmean([values[name] for values in each]) for name in METRICS}
        if exclusive:
            mean["accuracy"] = (predicted[images] & (y_true[images] == 1)).any(axis=1).mean()
            mean["balanced_accuracy"] = mean["sensitivity"]
        rows.append(mean)
    assert sum({0, 1} <= set(y_true[:, place]) for place in range(3)) == 3

    measured = measure_all((y_true, probability, predicted), groups, exclusive=exclusive)["metrics"]

    for name in METRICS[:-1]:
        expected = np.nanquantile([row[name] for row in rows], (0.025, 0.975))
        assert (measured[name]["low"], measured[name]["high"]) == pytest.approx(tuple(expected), abs=1e-12), name


def test_every_output_is_drawn_with_the_same_patients():
    y_true, probability, predicted = draw_labels(120, unknown=0)
    copied = [np.column_stack([part[:, 0]] * 3) for part in (y_true, probability, predicted)]

    measured = measure_all(copied, patients(120))

    for name in NAMES:
        assert measured["per_class"][name] == measured["per_class"]["a"]
    for name, each in measured["metrics"].items():
        assert each == pytest.approx(measured["per_class"]["a"][name], abs=1e-12), name


def test_a_class_lost_in_some_replicates_is_dropped_for_its_output_alone():
    y_true, probability, predicted = draw_labels(120, unknown=0)
    before = measure_all((y_true, probability, predicted), patients(120))
    y_true[:, 2] = np.arange(120) == 50

    after = measure_all((y_true, probability, predicted), patients(120))

    assert after["per_class"]["a"] == before["per_class"]["a"]
    assert after["per_class"]["c"]["sensitivity"]["value"] == predicted[50, 2]
    assert after["per_class"]["c"]["auc"]["low"] is not None
    assert all(each["low"] is not None for each in after["metrics"].values())


@given(order=st.permutations(range(3)), exclusive=st.booleans())
def test_outputs_in_another_order_change_nothing(order, exclusive):
    images = draw_classes(60) if exclusive else draw_labels(60)
    expected = measure_all(images, patients(60), exclusive=exclusive, replicates=50)
    names = tuple(NAMES[place] for place in order)

    found = measure_all(
        [part[:, order] for part in images], patients(60), exclusive=exclusive, outputs=names, replicates=50
    )

    assert found["support"] == expected["support"]
    assert tuple(found["per_class"]) == names
    groups = [(found["metrics"], expected["metrics"])]
    groups += [(found["per_class"][name], expected["per_class"][name]) for name in NAMES]
    for one, other in groups:
        for name in METRICS:
            assert one[name] == pytest.approx(other[name], abs=1e-12), name


@pytest.mark.parametrize("grouped", [False, True])
def test_images_in_another_order_change_nothing(grouped):
    images = draw_labels(90)
    groups = patients(90) if grouped else None
    order = np.random.default_rng(5).permutation(90)
    expected = measure_all(images, groups)

    found = measure_all([part[order] for part in images], groups[order] if grouped else None)

    for name in METRICS:
        assert found["metrics"][name] == pytest.approx(expected["metrics"][name], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exclusive", [False, True])
def test_mean_intervals_hold_the_value_and_are_narrower_than_those_of_a_rare_class(seed, exclusive):
    images = draw_classes(300, seed=seed) if exclusive else draw_labels(300, seed=seed)

    measured = measure_all(images, patients(300), exclusive=exclusive)

    for name, each in measured["metrics"].items():
        assert 0 <= each["low"] < each["value"] < each["high"] <= 1, name
    width = lambda each: each["auc"]["high"] - each["auc"]["low"]  # noqa: E731
    assert width(measured["metrics"]) < max(width(each) for each in measured["per_class"].values())


def test_images_of_which_nothing_is_known_leave_with_their_patients():
    images = draw_labels(90)
    groups = patients(90)
    expected = measure_all([part[:60] for part in images], groups[:60])
    images[0][60:] = np.nan

    assert measure_all(images, groups) == expected


def test_output_known_for_one_patient_has_no_interval():
    y_true, probability, predicted = draw_labels(90, unknown=0)
    y_true[3:, 1] = np.nan
    y_true[:3, 1] = 0, 1, 1

    measured = measure_all((y_true, probability, predicted), patients(90))

    assert measured["per_class"]["b"]["sensitivity"]["value"] is not None
    assert {each["low"] for each in measured["per_class"]["b"].values()} == {None}
    assert measured["per_class"]["a"]["sensitivity"]["low"] is not None


def test_output_of_which_nothing_is_known_is_left_out_of_the_mean():
    y_true, probability, predicted = draw_labels(90)
    y_true[:, 1] = np.nan

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure_all((y_true, probability, predicted), patients(90))

    assert measured["support"]["b"] == {"n_known": 0, "n_positive": 0}
    assert all(each == {"value": None, "low": None, "high": None} for each in measured["per_class"]["b"].values())
    pair = [measured["per_class"][name]["auc"]["value"] for name in "ac"]
    assert measured["metrics"]["auc"]["value"] == pytest.approx(np.mean(pair))


@pytest.mark.parametrize("exclusive", [False, True])
def test_no_images_have_no_measures(exclusive):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure_all((np.zeros((0, 3)),) * 3, exclusive=exclusive)

    assert all(each == {"value": None, "low": None, "high": None} for each in measured["metrics"].values())


def test_wrong_shapes_are_refused():
    y_true, probability, predicted = draw_labels(10)

    with pytest.raises(ValueError, match=r"\[n, 2\].*\(10, 3\)"):
        measure_all((y_true, probability, predicted), outputs=("a", "b"))
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        measure_all((y_true, probability, predicted[:, 0]))


def mean_of(values, groups=None, **options):
    return bootstrap_mean(values, groups, **{**BOOTSTRAP, **options})


def test_mean_is_that_of_a_loop_over_resampled_patients():
    rng = np.random.default_rng(0)
    values, groups = rng.random(40), np.array([f"p{number:02}" for number in rng.integers(0, 12, size=40)])
    ids = np.unique(groups)
    drawn = np.random.default_rng(3).integers(len(ids), size=(400, len(ids)))
    means = [values[np.concatenate([np.flatnonzero(groups == ids[number]) for number in row])].mean() for row in drawn]

    found = mean_of(values, groups)

    low, high = np.quantile(means, (0.025, 0.975))
    assert found == pytest.approx({"value": values.mean(), "low": low, "high": high})


def test_mean_interval_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(0).normal(size=2000)

    found = mean_of(values, replicates=2000)

    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_mean_does_not_depend_on_the_order_nor_on_unknown_values(values, random):
    shuffled = [*values, np.nan, np.nan]
    random.shuffle(shuffled)

    found, expected = mean_of(shuffled, replicates=100), mean_of(values, replicates=100)

    assert found == pytest.approx(expected, abs=1e-9)
    assert found["low"] - 1e-9 <= found["high"]
    assert min(values) - 1e-9 <= found["low"]
    assert found["high"] <= max(values) + 1e-9


def test_image_without_patient_is_a_patient_of_its_own_in_a_mean():
    values = np.sort(np.random.default_rng(0).random(30))
    named = np.array([f"p{number // 2:02}" for number in range(20)] + [f"q{number:02}" for number in range(10)])
    missing = np.where(np.arange(30) < 20, named, None)

    assert mean_of(values, missing) == mean_of(values, named) != mean_of(values)
    assert mean_of(values, [None] * 30) == mean_of(values)


def test_mean_of_nothing_and_of_one_patient():
    assert mean_of([]) == mean_of([np.nan]) == {"value": None, "low": None, "high": None}
    assert mean_of([1, 2, np.nan], ["a", "a", "b"]) == {"value": 1.5, "low": None, "high": None}
