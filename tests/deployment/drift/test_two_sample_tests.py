import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.deployment.drift.two_sample_tests import (
    compare_calibration,
    compare_features,
    compare_scores,
    compare_shares,
    compare_values,
)

VALUES = st.lists(st.floats(-100, 100), min_size=30, max_size=60).map(np.array)


@given(VALUES, VALUES)
@settings(max_examples=60)
def test_the_distance_is_between_0_and_1_and_knows_no_direction(one, other) -> None:
    found, back = compare_values("x", one, other), compare_values("x", other, one)
    assert 0 <= found.effect <= 1
    assert found.effect == pytest.approx(back.effect)
    assert found.p_value == pytest.approx(back.p_value)
    assert (found.n_reference, found.n_new) == (len(one), len(other))
    assert (found.reference, found.new) == (np.median(one), np.median(other))
    for side in ("reference", "new"):
        assert sum(found.histogram[side]) == pytest.approx(1)


def test_equal_samples_do_not_differ() -> None:
    values = np.random.default_rng(0).normal(size=80)
    for compare in (compare_values, compare_scores):
        found = compare("x", values, values)
        assert (found.effect, found.p_value) == (0, 1)


def test_a_sample_of_one_value_only_is_compared() -> None:
    ones, twos = np.full(40, 1.0), np.full(40, 2.0)
    for compare in (compare_values, compare_scores):
        assert compare("x", ones, ones).effect == 0
        assert compare("x", ones, ones).p_value == 1
        assert compare("x", ones, twos).p_value < 1e-6
    assert compare_values("x", ones, twos).effect == 1


def test_the_stability_index_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    reference, new = rng.random(5000), rng.beta(2, 1, 5000)
    edges = np.quantile(reference, np.linspace(0, 1, 11))
    edges[[0, -1]] = -np.inf, np.inf
    then, now = (np.histogram(values, edges)[0] / 5000 for values in (reference, new))
    expected = np.sum((now - then) * np.log(now / then))
    assert compare_scores("x", reference, new).effect == pytest.approx(expected, abs=0.01)


def test_the_index_of_few_images_is_not_above_0_by_chance_alone() -> None:
    rng = np.random.default_rng(0)
    found = [compare_scores("x", rng.random(40), rng.random(40)).effect for _ in range(200)]
    assert np.mean(found) < 0.15  # 0.45 without the correction
    assert np.median(found) < 0.1


def test_a_wider_spread_is_told_apart_as_well_as_a_shift() -> None:
    rng = np.random.default_rng(0)
    same, shifted, wider = (rng.normal(mean, scale, (150, 5)) for mean, scale in ((0, 1), (0.7, 1), (0, 2)))
    reference = rng.normal(size=(150, 5))
    assert 0.35 < compare_features("x", reference, same, seed=0).effect < 0.65
    for other in (shifted, wider):
        found = compare_features("x", reference, other, seed=0)
        assert found.effect > 0.75
        assert found.p_value < 1e-4


def test_what_tells_nothing_apart_is_significant_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(1)
    p_values = [
        compare_features("x", rng.normal(size=(40, 4)), rng.normal(size=(60, 4)), seed=0).p_value for _ in range(150)
    ]
    assert np.mean(np.array(p_values) < 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 150)
    assert min(p_values) < 0.2


def test_far_away_features_do_not_upset_the_classifier() -> None:
    rng = np.random.default_rng(0)
    found = compare_features("x", rng.normal(size=(40, 3)), np.full((40, 3), 1e30), seed=0)
    assert found.effect == 1


def test_shares() -> None:
    found = compare_shares("x", (45, 100), (90, 100))
    assert found.effect == pytest.approx(2 * np.arcsin(np.sqrt(0.9)) - 2 * np.arcsin(np.sqrt(0.45)))
    assert found.p_value < 1e-9
    assert (found.reference, found.new, found.n_reference, found.n_new) == (0.45, 0.9, 100, 100)
    assert compare_shares("x", (0, 50), (0, 80)).p_value == 1
    assert compare_shares("x", (90, 100), (45, 100)).effect == pytest.approx(found.effect)


@given(st.integers(1, 200), st.integers(1, 200), st.data())
@settings(max_examples=40)
def test_shares_that_are_equal_have_no_effect(n, m, data) -> None:
    positive = data.draw(st.integers(0, n))
    same = compare_shares("x", (positive, n), (positive, n))
    assert same.effect == 0
    assert same.p_value == pytest.approx(1)
    other = compare_shares("x", (positive, n), (data.draw(st.integers(0, m)), m))
    assert 0 <= other.effect <= np.pi + 1e-9
    assert 0 <= other.p_value <= 1


class TestCalibration:
    @staticmethod
    def images(n: int, seed: int, honest=lambda probability: probability) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        probability = rng.beta(0.5, 0.5, n)
        return (rng.random(n) < honest(probability)).astype(float), probability

    def test_honest_probabilities_stay_honest(self) -> None:
        large, single = compare_calibration("ill", self.images(300, 0), self.images(300, 1))
        assert max(large.effect, single.effect) < 0.06
        assert min(large.p_value, single.p_value) > 0.05
        assert (large.name, single.name) == ("ill, in the large", "ill, of single images")

    def test_flipped_labels_are_seen_where_the_shares_stay(self) -> None:
        true, probability = self.images(200, 1)
        large, single = compare_calibration("ill", self.images(200, 0), (1 - true, probability))
        assert single.effect > 0.4
        assert single.p_value < 1e-9
        assert large.effect < 0.15

    def test_more_positives_than_promised_are_seen_in_the_large(self) -> None:
        more = self.images(300, 1, honest=lambda probability: 0.4 + 0.6 * probability)
        large, _ = compare_calibration("ill", self.images(300, 0), more)
        assert large.new > 0.15
        assert large.p_value < 1e-6
        assert large.effect == pytest.approx(large.new - large.reference)

    def test_an_effect_has_no_sign(self) -> None:
        fewer = self.images(300, 1, honest=lambda probability: 0.6 * probability)
        for found in compare_calibration("ill", self.images(300, 0), fewer):
            assert found.effect == pytest.approx(abs(found.new - found.reference))
            assert found.effect >= 0
        assert compare_calibration("ill", self.images(300, 0), fewer)[0].new < -0.1

    def test_a_model_that_never_was_calibrated_has_not_drifted(self) -> None:
        def off(probability):
            return 0.5 + (probability - 0.5) / 4

        large, single = compare_calibration("ill", self.images(300, 0, off), self.images(300, 1, off))
        assert single.reference > 0.1
        assert min(large.p_value, single.p_value) > 0.05

    def test_it_is_the_numerator_of_spiegelhalter(self) -> None:
        true, probability = self.images(50, 0)
        _, single = compare_calibration("ill", self.images(50, 1), (true, probability))
        brier, promised = (true - probability) ** 2, probability * (1 - probability)
        assert single.new == pytest.approx(np.mean(brier - promised))

    def test_residuals_without_any_spread_are_compared(self) -> None:
        sure = np.repeat([0.0, 1.0], 20)
        same = compare_calibration("ill", (sure, sure), (sure, sure))
        assert [found.p_value for found in same] == [1, 1]
        assert compare_calibration("ill", (sure, sure), (1 - sure, sure))[1].p_value == 0
