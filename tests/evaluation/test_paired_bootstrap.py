import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scores import decided_table, draw_classes
from scipy.special import expit

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.metrics import METRICS, draw_weights
from cxr_pipeline.evaluation.paired_bootstrap import holm, match_images, paired_differences

BOOTSTRAP = {"replicates": 400, "confidence": 0.95, "seed": 3}
ONE = {"outputs": ("mass",), "exclusive": False, "bootstrap": BOOTSTRAP}


def draw_pair(n_images=300, *, per_patient=1, seed=0, skill=(1.5, 1.5)):
    """Draw the score tables of two models of a binary task."""
    rng = np.random.default_rng(seed)
    patients = [f"p{number // per_patient:04}" for number in range(n_images)]
    y_true = (rng.random((n_images, 1)) < 0.4).astype(float)
    common = rng.normal(size=y_true.shape) - 0.6
    scores = [expit(gain * y_true + common + rng.normal(size=y_true.shape)) for gain in skill]
    return [decided_table(y_true, score, ("mass",), patient_id=patients) for score in scores]


def test_a_model_does_not_differ_from_itself():
    table, _ = draw_pair()
    differences = paired_differences(table, table.copy(), **ONE)
    assert list(differences) == list(METRICS)
    assert all(each == {"value": 0, "low": 0, "high": 0, "p_value": 1} for each in differences.values())


@pytest.mark.parametrize("exclusive", [False, True])
def test_values_are_the_differences_of_the_evaluated_metrics(exclusive):
    pair, options = draw_pair(skill=(1.0, 1.5)), ONE
    if exclusive:
        (y_true, *mine), (_, *other) = draw_classes(100), draw_classes(100, seed=1)
        outputs, options = ("a", "b", "c"), {**ONE, "outputs": ("a", "b", "c"), "exclusive": True}
        pair = [decided_table(y_true, scores, outputs, predicted=decided) for scores, decided in (mine, other)]
    mine, other = (evaluate(table, **options)["metrics"] for table in pair)
    for name, difference in paired_differences(*pair, **options).items():
        assert difference["value"] == pytest.approx(mine[name]["value"] - other[name]["value"], abs=1e-9), name


@pytest.mark.parametrize("n_positive", [1, 4, 20, 200])
def test_two_models_without_errors_may_differ_on_other_patients(n_positive):
    y_true = np.repeat([1.0, 0.0], [n_positive, 30])[:, None]
    right = np.where(y_true == 1, 0.8, 0.2)
    scores = [right + 0.1 * np.random.default_rng(seed).random(y_true.shape) for seed in (1, 2)]
    found = paired_differences(*(decided_table(y_true, score, ("mass",)) for score in scores), **ONE)
    # Tango's interval without any pair that differs.
    least = 1.96**2 / (n_positive + 1.96**2)
    assert found["sensitivity"]["high"] == -found["sensitivity"]["low"] >= least - 1e-3
    assert found["sensitivity"]["p_value"] == 1
    for name in ("auc", "average_precision"):
        if n_positive < 5:
            expected = {"value": 0, "low": None, "high": None, "p_value": None, "too_few_patients": n_positive}
            assert found[name] == expected
        else:
            assert found[name]["high"] == -found[name]["low"] > 0.01


@pytest.mark.parametrize("skill", [(1.5, 1.5), (0.5, 2.5)])
def test_the_same_patients_are_drawn_for_both_models(skill):
    mine, other = draw_pair(40, per_patient=2, skill=skill)
    right, others = (table["predicted_mass"] == (table["true_mass"] == 1) for table in (mine, other))
    weights = np.concatenate(list(draw_weights(np.arange(40) // 2, BOOTSTRAP["replicates"], BOOTSTRAP["seed"])))
    drawn = (weights @ (right.astype(float) - others) / weights.sum(axis=1)).round(12)
    low, high = np.quantile(drawn, [0.025, 0.975])
    # One replicate is added on each side, so that no p-value is zero.
    p_value = min(1, 2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / (len(drawn) + 1))
    found = paired_differences(mine, other, **ONE)["accuracy"]
    # Without a difference, 20 patients would leave this much open.
    least = 1.96**2 / (20 + 1.96**2)
    expected = (min(low, found["value"] - least), max(high, found["value"] + least), p_value)
    assert (found["low"], found["high"], found["p_value"]) == pytest.approx(expected, abs=1e-4)


def test_the_order_of_rows_does_not_matter():
    mine, other = draw_pair(80, seed=2, per_patient=2)
    mine.loc[:20, "patient_id"] = other.loc[:20, "patient_id"] = None
    shuffled = (table.sample(frac=1, random_state=state) for state, table in enumerate((mine, other)))
    assert paired_differences(*shuffled, **ONE) == paired_differences(mine, other, **ONE)


def test_the_interval_of_the_calibration_error_contains_its_value():
    probability = np.random.default_rng(0).random((300, 1))
    y_true = (np.random.default_rng(1).random((300, 1)) < probability).astype(float)
    pair = [decided_table(y_true, scores, ("mass",)) for scores in (probability, np.clip(2 * probability - 0.5, 0, 1))]
    for confidence in (0.95, 0.01):
        found = paired_differences(*pair, **{**ONE, "bootstrap": {**BOOTSTRAP, "confidence": confidence}})["ece"]
        assert found["low"] <= found["value"] <= found["high"] < 0


def test_undefined_metrics_have_no_difference_and_one_patient_has_no_interval():
    mine, other = draw_pair(n_images=50)
    found = paired_differences(mine.assign(predicted_mass=False), other, **ONE)
    assert found["precision"] == {"value": None, "low": None, "high": None, "p_value": None}
    assert found["auc"]["p_value"] is not None
    one_patient = paired_differences(*draw_pair(n_images=50, per_patient=50), **ONE)["auc"]
    unknown = {"low": None, "high": None, "p_value": None, "too_few_patients": 1}
    assert one_patient == {"value": found["auc"]["value"], **unknown}


def test_images_in_one_table_only_are_left_out_and_counted():
    mine, other = draw_pair()
    for table in (mine, other):  # images of equal name from two sources are distinct
        table.loc[150:, "image"], table.loc[150:, "source"] = table.loc[:149, "image"].to_numpy(), "more"
    few, many = mine.iloc[:200], other.iloc[20:]

    first, second, n_left_out = match_images(few, many, ("mass",))

    assert n_left_out == 20 + 100
    assert first["image"].tolist() == second["image"].tolist()
    expected = paired_differences(mine.iloc[20:200], other.iloc[20:200], **ONE)
    assert paired_differences(few, many, **ONE) == expected


@pytest.mark.parametrize(
    ("column", "rows", "value", "message"),
    [
        ("true_mass", [3, 7], 2.0, "2 of 20 common test images differ in `true_mass`"),
        ("patient_id", [3, 7], None, "2 of 20 common test images differ in `patient_id`"),
        ("source", slice(None), "elsewhere", "no test image in common: one was tested on 20 images"),
        ("image", 7, "0003", "An image occurs twice"),
    ],
)
def test_tables_that_cannot_be_compared_are_rejected(column, rows, value, message):
    mine, other = draw_pair(n_images=20)
    other.loc[rows, column] = value
    with pytest.raises(ValueError, match=message):
        match_images(mine, other, ("mass",))


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@settings(max_examples=50)
@given(P_VALUES)
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    places = range(len(p_values))
    subsets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    bonferroni = {chosen: min(1, len(chosen) * min(p_values[place] for place in chosen)) for chosen in subsets}
    expected = [max(value for chosen, value in bonferroni.items() if place in chosen) for place in places]
    assert holm(p_values) == pytest.approx(expected)


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_depends_neither_on_the_order_nor_on_missing_tests(p_values, random):
    adjusted = dict(zip(p_values, holm(p_values), strict=True))
    shuffled = [*p_values, np.nan, np.nan]
    random.shuffle(shuffled)
    assert holm(shuffled) == pytest.approx([adjusted.get(p_value, np.nan) for p_value in shuffled], nan_ok=True)
