import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_pipeline.experiments.permuted_auc import mean_auc, null_bound


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_auc_equals_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((30, 3)), 1)
    labels = rng.integers(0, 2, (2, 30, 3)).astype(np.float32)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    labels[:, :2] = np.array([0, 1])[:, np.newaxis]
    expected = []
    for table in labels:
        known = ~np.isnan(table)
        aucs = [roc_auc_score(table[known[:, k], k], scores[known[:, k], k]) for k in range(3)]
        expected.append(np.mean(aucs))
    np.testing.assert_allclose(mean_auc(labels, scores), expected)


def test_an_output_with_one_class_is_left_out_of_the_mean():
    scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.1]])
    labels = np.array([[0, 1], [1, 1], [1, np.nan]], np.float32)
    np.testing.assert_allclose(mean_auc(labels[np.newaxis], scores), [1.0])
    assert np.isnan(mean_auc(np.ones((1, 3, 2), np.float32), scores)).all()


def bound(y, scores, contents=None, **changes):
    numbers = np.arange(len(y)) if contents is None else contents
    options = {"false_alarms": 0.05, "permutations": 20_000, "seed": 0, **changes}
    return null_bound(y[:, np.newaxis], scores[:, np.newaxis], contents=numbers, **options)


def test_the_bound_equals_that_of_the_rank_sum_test():
    rng = np.random.default_rng(0)
    y, scores = (np.arange(90) % 3 == 0).astype(float), rng.permutation(90) / 90
    deviation = np.sqrt((90 + 1) / (12 * 30 * 60))
    assert bound(y, scores) == pytest.approx(1.96 * deviation, rel=0.03)
    assert bound(y, scores, false_alarms=0.01) == pytest.approx(2.576 * deviation, rel=0.03)


def test_equal_contents_keep_equal_labels():
    rng = np.random.default_rng(2)
    scores, y = rng.permutation(20) / 20, (np.arange(20) % 2).astype(float)
    twice = bound(np.tile(y, 4), np.tile(scores, 4), np.tile(np.arange(20), 4))
    assert twice == pytest.approx(bound(y, scores), rel=0.05)
    assert twice > 1.5 * bound(np.tile(y, 4), np.tile(scores, 4))


def test_false_alarms_occur_at_about_their_nominal_rate():
    rng, alarms = np.random.default_rng(0), 0
    for seed in range(200):
        # Scores with ties, and labels of two outputs that depend on each other but not on the scores.
        scores = (rng.random((40, 1)) + rng.random((40, 2))).round(1)
        labels = (rng.random((40, 1)) + rng.random((40, 2)) > 1.2).astype(float)
        labels[rng.random(labels.shape) < 0.1] = np.nan
        options = {"contents": np.arange(40), "false_alarms": 0.1, "permutations": 200, "seed": seed}
        alarms += abs(mean_auc(labels[np.newaxis], scores)[0] - 0.5) > null_bound(labels, scores, **options)
    # Three standard deviations around 20.
    assert 7 <= alarms <= 33
