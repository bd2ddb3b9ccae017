import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.deployment.drift.two_sample_tests import (
    compare_brier_excess,
    compare_calibration_in_the_large,
    compare_features,
    compare_prevalence,
    compare_scores,
    compare_values,
)

VALUES = st.lists(st.floats(-100, 100), min_size=30, max_size=60).map(np.array)


@given(VALUES, VALUES)
@settings(max_examples=60)
def test_the_ks_distance_is_symmetric_and_at_most_1(one, other):
    result, swapped = compare_values("x", one, other), compare_values("x", other, one)
    assert 0 <= result["effect"] <= 1
    assert (result["effect"], result["p_value"]) == pytest.approx((swapped["effect"], swapped["p_value"]))
    assert (result["n_reference"], result["n_new"]) == (len(one), len(other))
    assert (result["reference"], result["new"]) == (np.median(one), np.median(other))
    for side in ("reference", "new"):
        assert sum(result["histogram"][side]) == pytest.approx(1)


@pytest.mark.parametrize("compare", [compare_values, compare_scores])
def test_equal_and_constant_samples(compare):
    values, ones = np.random.default_rng(0).normal(size=80), np.ones(40)
    for same in (values, ones):
        assert (compare("x", same, same)["effect"], compare("x", same, same)["p_value"]) == (0, 1)
    assert compare("x", ones, 2 * ones)["p_value"] < 1e-6
    assert compare_values("x", ones, 2 * ones)["effect"] == 1


def test_the_stability_index_follows_its_definition():
    rng = np.random.default_rng(0)
    reference, new = rng.random(5000), rng.beta(2, 1, 5000)
    edges = np.quantile(reference, np.linspace(0, 1, 11))
    edges[[0, -1]] = -np.inf, np.inf
    expected, actual = (np.histogram(values, edges)[0] / 5000 for values in (reference, new))
    index = np.sum((actual - expected) * np.log(actual / expected))
    assert compare_scores("x", reference, new)["effect"] == pytest.approx(index, abs=0.01)


def test_the_stability_index_of_small_samples_is_corrected():
    rng = np.random.default_rng(0)
    effects = [compare_scores("x", rng.random(40), rng.random(40))["effect"] for _ in range(200)]
    assert np.mean(effects) < 0.15  # 0.45 without the correction
    assert np.median(effects) < 0.1


def test_the_domain_classifier_detects_a_shift_and_a_change_of_spread():
    rng = np.random.default_rng(0)
    same, shifted, wider = (rng.normal(mean, scale, (150, 5)) for mean, scale in ((0, 1), (0.7, 1), (0, 2)))
    reference = rng.normal(size=(150, 5))
    assert 0.35 < compare_features("x", reference, same, seed=0)["effect"] < 0.65
    for other in (shifted, wider):
        result = compare_features("x", reference, other, seed=0)
        assert result["effect"] > 0.75
        assert result["p_value"] < 1e-4
    assert compare_features("x", reference, np.full((40, 5), 1e30), seed=0)["effect"] == 1


def labels(positive, n):
    return np.repeat([1.0, 0.0], [positive, n - positive])


def test_the_effect_of_a_prevalence_is_cohens_h():
    result = compare_prevalence("x", labels(45, 100), labels(90, 120))
    assert result["effect"] == pytest.approx(2 * np.arcsin(np.sqrt(0.75)) - 2 * np.arcsin(np.sqrt(0.45)))
    assert result["p_value"] < 1e-4
    assert (result["reference"], result["new"], result["n_reference"], result["n_new"]) == (0.45, 0.75, 100, 120)
    assert compare_prevalence("x", labels(90, 120), labels(45, 100))["effect"] == pytest.approx(result["effect"])


def images(n, seed, frequency=lambda probability: probability):
    """Labels and probabilities [n, 2] of images with a given frequency of positive labels."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.5, 0.5, n)
    return np.stack([rng.random(n) < frequency(probability), probability], axis=1)


def compare_calibration(reference, new):
    return compare_calibration_in_the_large("ill", reference, new), compare_brier_excess("ill", reference, new)


def overconfident(probability):
    return 0.5 + (probability - 0.5) / 4


@pytest.mark.parametrize("frequency", [lambda p: p, overconfident])
def test_calibration_that_stays_the_same_is_no_drift(frequency):
    large, excess = compare_calibration(images(300, 0, frequency), images(300, 1, frequency))
    assert max(large["effect"], excess["effect"]) < 0.06
    assert min(large["p_value"], excess["p_value"]) > 0.05
    assert (excess["reference"] > 0.1) == (frequency is overconfident)


def test_flipped_labels_are_detected_at_equal_prevalence():
    large, excess = compare_calibration(images(200, 0), np.abs(images(200, 1) - [1, 0]))
    assert excess["effect"] > 0.4
    assert excess["p_value"] < 1e-9
    assert large["effect"] < 0.15


@pytest.mark.parametrize(("frequency", "sign"), [(lambda p: 0.4 + 0.6 * p, 1), (lambda p: 0.6 * p, -1)])
def test_another_frequency_is_detected_in_the_large(frequency, sign):
    large, _ = compare_calibration(images(300, 0), images(300, 1, frequency))
    assert sign * large["new"] > 0.1
    assert large["p_value"] < 1e-3
    assert large["effect"] == pytest.approx(abs(large["new"] - large["reference"]))


def test_the_brier_excess_is_the_score_above_its_expected_value():
    new = images(50, 0)
    y_true, probability = new.T
    _, excess = compare_calibration(images(50, 1), new)
    assert excess["new"] == pytest.approx(np.mean((y_true - probability) ** 2 - probability * (1 - probability)))


def test_calibration_without_spread():
    certain = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    assert [result["p_value"] for result in compare_calibration(certain, certain)] == [1, 1]
    assert compare_calibration(certain, np.abs(certain - [1, 0]))[1]["p_value"] == 0
