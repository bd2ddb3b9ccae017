import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.metrics import METRICS, SortedImages, draw_weights, equal_mass_bins, mean_auc, null_bound

IMAGE = st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 12), st.booleans(), st.integers(0, 4))


def measure(y_true, probability, predicted):
    """Return the metrics of images without weights."""
    images = SortedImages(*map(np.asarray, (y_true, probability, predicted)))
    return {name: values[0] for name, values in images.replicate(np.ones((1, len(y_true)))).items()}


def test_worked_example():
    y_true = [1, 1, 1, 0, 0, 0, 0, 0]
    probability = [0.9, 0.6, 0.2, 0.7, 0.4, 0.3, 0.2, 0.1]

    metrics = measure(y_true, probability, [True, True, False, True, False, False, False, False])

    assert tuple(metrics) == METRICS
    assert metrics == pytest.approx(
        {
            "auc": (5 + 4 + 1.5) / 15,
            "average_precision": (1 / 1 + 2 / 3 + 3 / 7) / 3,
            "accuracy": 6 / 8,
            "balanced_accuracy": (2 / 3 + 4 / 5) / 2,
            "sensitivity": 2 / 3,
            "specificity": 4 / 5,
            "precision": 2 / 3,
            "f1": 2 / 3,
            "brier": (0.01 + 0.16 + 0.64 + 0.49 + 0.16 + 0.09 + 0.04 + 0.01) / 8,
            # Seven values fill seven bins; the two images at 0.2 share one.
            "ece": (0.1 + 0.4 + (1 - 0.4) + 0.7 + 0.4 + 0.3 + 0.1) / 8,
        }
    )


@pytest.mark.parametrize(
    ("y_true", "probability", "undefined"),
    [
        ([1, 1], [0.3, 0.7], {"auc", "average_precision", "balanced_accuracy", "specificity"}),
        ([0, 0], [0.3, 0.7], {"auc", "average_precision", "balanced_accuracy", "sensitivity"}),
        ([0, np.nan, 1], [0.1, 0.99, 0.2], {"precision"}),
        ([], [], set(METRICS)),
        ([np.nan], [0.5], set(METRICS)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_undefined_metrics_are_nan_without_a_warning(y_true, probability, undefined):
    metrics = measure(y_true, probability, np.asarray(probability) >= 0.5)
    assert {name for name, value in metrics.items() if np.isnan(value)} == undefined


@pytest.mark.parametrize(
    ("y_true", "probability", "error", "message"),
    [
        ([0, 1, 1], [np.nan, np.nan, 0.5], UserError, r"2 of 3 images.*learning_rate"),
        ([0, 2], [0.1, 0.2], ValueError, "0, 1 or NaN"),
        ([0, 1], [0.1, 1.2], ValueError, r"\[0, 1\]"),
        ([0, 1], [0.1], ValueError, "the same shape"),
    ],
)
def test_wrong_arrays_are_rejected(y_true, probability, error, message):
    with pytest.raises(error, match=message):
        measure(y_true, probability, [True] * len(y_true))


@settings(max_examples=60)
@given(st.lists(IMAGE, max_size=38), st.integers(0, 12))
def test_an_image_of_weight_w_counts_like_w_copies_of_it(images, cell):
    # With these two images, both classes remain under the weights.
    columns = np.array([(0.0, 3, False, 1), (1.0, cell, True, 2), *images]).T
    y_true, probability, predicted, weights = columns[0], columns[1] / 12, columns[2] == 1, columns[3].astype(int)
    sorted_images, row = SortedImages(y_true, probability, predicted), weights[np.newaxis].astype(float)

    values = sorted_images.replicate(row)

    known = np.flatnonzero(~np.isnan(y_true))
    copies = np.repeat(known, weights[known])
    expected = measure(y_true[copies], probability[copies], predicted[copies])
    # The bins of the calibration error are those of the images without weights.
    bins = np.repeat(equal_mass_bins(probability[known]), weights[known])
    expected["ece"] = np.abs(np.bincount(bins, weights=(y_true - probability)[copies])).sum() / len(copies)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
    np.testing.assert_array_equal(sorted_images.calibration_error(row), values["ece"])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_replicate_that_lost_a_class_has_no_metrics(lost):
    y_true = np.array([0, 1, 0, 1.0])
    weights = (y_true != lost)[None, :].astype(float)
    values = SortedImages(y_true, y_true, y_true == 1).replicate(weights)
    assert all(np.isnan(values[name]).all() for name in METRICS)
    of_one_class = SortedImages(np.ones(4), y_true, y_true == 1).replicate(weights)
    assert of_one_class["sensitivity"] == 1 - lost


def test_a_replicate_has_as_many_patients_with_all_their_images():
    codes = np.array([0, 0, 1, 2, 2, 2, 3])
    weights = np.concatenate(list(draw_weights(codes, 500, seed=3)))
    assert weights.shape == (500, 7)
    of_patients = weights[:, [0, 2, 3, 6]]
    np.testing.assert_array_equal(weights, of_patients[:, codes])
    np.testing.assert_array_equal(of_patients.sum(axis=1), 4)
    np.testing.assert_allclose(of_patients.mean(axis=0), 1, atol=0.15)
    assert list(draw_weights(np.zeros(3, int), 500, seed=3)) == []


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 40)), min_size=1, max_size=60))
def test_calibration_error_lies_between_its_bounds_and_bins_keep_ties_together(images):
    y_true, cells = np.array(images).T
    probability = cells / 40
    error = measure(y_true, probability, probability >= 0.5)["ece"]
    assert abs(y_true.mean() - probability.mean()) - 1e-12 <= error <= np.abs(y_true - probability).mean() + 1e-12
    bins = equal_mass_bins(probability)
    assert len(set(zip(probability, bins, strict=True))) == len(np.unique(probability))


@given(st.integers(10, 300), st.integers(2, 10))
def test_bins_of_distinct_probabilities_have_equal_size(n_images, n_bins):
    bins = equal_mass_bins(np.linspace(0, 1, n_images), n_bins)
    sizes = np.bincount(bins, minlength=n_bins)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(bins) >= 0).all()


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
