import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_pipeline.evaluation.intervals import (
    FEWEST_PATIENTS,
    UNDEFINED,
    Patients,
    estimate_metrics,
    estimate_share,
    mean_estimate,
    measure_mean,
    wilson,
)
from cxr_pipeline.evaluation.metrics import SortedImages

COUNTS = arrays(np.float64, st.integers(1, 12), elements=st.integers(1, 9))


@st.composite
def shares(draw):
    members = draw(COUNTS)
    gained = np.array([draw(st.integers(0, int(count))) for count in members], dtype=float)
    return gained, members


@given(st.integers(1, 400), st.data())
def test_wilson_is_that_of_scipy_or_wider(n, data):
    count = data.draw(st.integers(0, n))
    low, high = wilson(count / n, n, 0.95)
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert 0 <= low <= expected.low + 1e-9 and expected.high - 1e-9 <= high <= 1
    if n > 20 and 0.4 < count / n < 0.6:
        assert (low, high) == pytest.approx((expected.low, expected.high))
    assert wilson(1 - count / n, n, 0.95) == pytest.approx((1 - high, 1 - low))


@given(st.floats(0, 1), st.floats(1, 1e5))
def test_an_interval_contains_the_value_and_shrinks_with_more_patients_or_less_confidence(value, n):
    low, high = wilson(value, n, 0.95)
    assert 0 <= low <= value <= high <= 1
    assert high - low >= 1 / (n + 4)
    for narrower in (wilson(value, 2 * n, 0.95), wilson(value, n, 0.5)):
        assert narrower[1] - narrower[0] < high - low


@given(shares(), st.integers(2, 5))
def test_more_images_of_the_same_patients_with_the_same_results_tell_nothing_new(share, copies):
    gained, members = share
    once, often = (estimate_share(factor * gained, factor * members, 0.95) for factor in (1, copies))
    assert (once.low, once.high) == pytest.approx((often.low, often.high))
    assert once.high - once.low > 1 / (members.sum() + 4)


@given(st.integers(1, 60), st.data())
def test_with_one_image_of_each_patient_the_interval_is_that_of_a_proportion(n, data):
    count = data.draw(st.integers(0, n))
    found = estimate_share(np.arange(n) < count, np.ones(n), 0.9)
    assert (found.low, found.high) == pytest.approx(wilson(count / n, n, 0.9))


def test_images_of_a_patient_with_different_results_count_more_than_with_the_same():
    members = np.full(40, 4.0)
    mixed = estimate_share(np.full(40, 2.0), members, 0.95)
    equal = estimate_share(4.0 * (np.arange(40) < 20), members, 0.95)
    assert (equal.low, equal.high) == pytest.approx(wilson(0.5, 40, 0.95))
    assert mixed.high - mixed.low < 0.5 * (equal.high - equal.low)


@given(shares())
def test_the_interval_of_a_mean_lies_between_that_of_equal_and_of_independent_metrics(share):
    one = estimate_share(*share, 0.95)
    assert mean_estimate([None]) is None
    assert mean_estimate([one, None]) is one
    same = mean_estimate([one, one])
    assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high))
    gained, members = (np.concatenate([part, np.zeros(len(part))]) for part in share)
    apart = mean_estimate([estimate_share(*each, 0.95) for each in ((gained, members), (gained[::-1], members[::-1]))])
    assert one.value - apart.low == pytest.approx((one.value - one.low) / np.sqrt(2))
    assert apart.high - one.value == pytest.approx((one.high - one.value) / np.sqrt(2))


def mean_of(values, patients=None, **options):
    return measure_mean(values, patients, confidence=0.95, **options)


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


RANKED = {"auc": roc_auc_score, "average_precision": average_precision_score, "brier": brier_score_loss}
DECIDED = {
    "accuracy": accuracy_score,
    "sensitivity": recall_score,
    "precision": precision_score,
    "f1": f1_score,
    "balanced_accuracy": balanced_accuracy_score,
}


def draw(n_images=80, *, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n_images) < 0.4
    probability = expit(1.5 * positive - 0.6 + rng.normal(size=n_images)).round(1)
    order = np.argsort(-probability, kind="stable")
    return positive[order], probability[order]


def of_images(positive, probability, codes=None, confidence=0.95):
    patients = Patients(np.arange(len(positive)) if codes is None else codes)
    images = SortedImages(positive.astype(float), probability, probability >= 0.5)
    return estimate_metrics(images, patients[images.images], confidence)


def test_values_and_influences_are_those_of_scikit_learn():
    positive, probability = draw()
    found = of_images(positive, probability)
    for name, score in (RANKED | DECIDED).items():
        given = probability if name in RANKED else probability >= 0.5
        value = score(positive, given)
        assert found[name].value == pytest.approx(value), name
        if name == "f1":  # its influence is that of the Jaccard index
            continue
        for image in range(0, len(positive), 9):
            weights = np.ones(len(positive))
            weights[image] += 1e-6
            change = (score(positive, given, sample_weight=weights) - value) / 1e-6
            assert found[name].influence[image] == pytest.approx(change, abs=1e-7), name


def test_images_of_the_same_patients_are_not_independent():
    positive, probability = draw(300)
    codes = np.where(positive, 0, 30) + np.arange(300) % 30
    alone, together = of_images(positive, probability), of_images(positive, probability, codes)
    twice = of_images(*(np.repeat(part, 2) for part in (positive, probability)), np.repeat(codes, 2))
    for name in alone:
        low, high = together[name].low, together[name].high
        assert high - low > alone[name].high - alone[name].low, name
        assert (twice[name].low, twice[name].high) == pytest.approx((low, high), abs=1e-9), name


@pytest.mark.parametrize("n_patients", [1, FEWEST_PATIENTS - 1, FEWEST_PATIENTS])
def test_ranking_needs_some_patients_of_either_class(n_patients):
    positive, probability = draw()
    expected = n_patients if n_patients < FEWEST_PATIENTS else None
    for side in (positive, ~positive):
        codes = np.where(side, np.arange(80) % n_patients, n_patients + np.arange(80))
        found = of_images(positive, probability, codes)
        assert found["auc"].too_few == found["average_precision"].too_few == expected
        assert found["sensitivity"].too_few is None


@pytest.mark.slow
def test_intervals_contain_the_true_value_in_about_95_of_100_samples():
    simulation = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))
    rows = [*simulation["cover_shares"](1000), *simulation["cover_metrics"](250)]
    assert len(rows) == 4 * 3 * 4 * 8
    for metric, n_patients, true, correlation, coverage, width in rows:
        # Three standard errors of the simulation below 93 %.
        lowest = 0.93 - 3 * np.sqrt(0.93 * 0.07 / (1000 if metric == "share" else 250))
        assert coverage >= lowest, (metric, n_patients, true, correlation)
        assert 0 < width < 0.8
        if metric == "share" and n_patients == 300:
            assert coverage <= 0.995
