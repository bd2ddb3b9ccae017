import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from cxr_pipeline.evaluation.intervals import UNDEFINED, estimate_share, mean_estimate, measure_mean, wilson

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
