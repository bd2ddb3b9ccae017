import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.metrics import (
    METRICS,
    binary_metrics,
    equal_mass_bins,
    expected_calibration_error,
    majority_baseline,
)


def at(y_true, probability, threshold=0.5):
    """The metrics where an image is predicted positive at a threshold."""
    return binary_metrics(y_true, probability, np.asarray(probability) >= threshold)


@st.composite
def scored_images(draw, min_size=2):
    """Images of both classes with many ties."""
    n_images = draw(st.integers(min_size, 60))
    y_true = np.array(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n_images, max_size=n_images)))
    y_true[:2] = 0, 1
    cells = draw(st.lists(st.integers(0, 40), min_size=n_images, max_size=n_images))
    return y_true, np.array(cells) / 40


def test_worked_example():
    y_true = [1, 1, 1, 0, 0, 0, 0, 0]
    probability = [0.9, 0.6, 0.2, 0.7, 0.4, 0.3, 0.2, 0.1]

    metrics = binary_metrics(y_true, probability, [True, True, False, True, False, False, False, False])

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


def test_decisions_need_not_follow_the_probability():
    metrics = binary_metrics([0, 1, 1], [0.9, 0.8, 0.1], [False, False, True])

    assert (metrics["sensitivity"], metrics["specificity"], metrics["precision"]) == (0.5, 1, 1)
    assert metrics["auc"] == 0


def test_unknown_labels_are_left_out():
    known = at([0, 1, 1], [0.2, 0.4, 0.45])

    assert at([0, np.nan, 1, 1], [0.2, 0.99, 0.4, 0.45]) == pytest.approx(known, nan_ok=True)


@pytest.mark.parametrize(
    ("y_true", "probability", "undefined"),
    [
        ([1, 1], [0.3, 0.7], {"auc", "average_precision", "balanced_accuracy", "specificity"}),
        ([0, 0], [0.3, 0.7], {"auc", "average_precision", "balanced_accuracy", "sensitivity"}),
        ([0, 1], [0.1, 0.2], {"precision"}),
        ([], [], set(METRICS)),
        ([np.nan], [0.5], set(METRICS)),
    ],
)
def test_undefined_is_nan_without_a_warning(y_true, probability, undefined):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = at(y_true, probability)

    assert {name for name, value in metrics.items() if np.isnan(value)} == undefined


def test_diverged_model_is_named():
    with pytest.raises(UserError, match=r"2 of 3 images.*learning_rate"):
        at([0, 1, 1], [np.nan, np.nan, 0.5])


@pytest.mark.parametrize(
    ("y_true", "probability", "message"),
    [([0, 2], [0.1, 0.2], "0, 1 or NaN"), ([0, 1], [0.1, 1.2], r"\[0, 1\]"), ([0, 1], [0.1], "the same shape")],
)
def test_impossible_arrays_are_refused(y_true, probability, message):
    with pytest.raises(ValueError, match=message):
        at(y_true, probability)


def test_a_decision_is_needed_for_every_image():
    with pytest.raises(ValueError, match=r"decisions.*\(2,\) and \(1,\)"):
        binary_metrics([0, 1], [0.1, 0.2], [True])


@given(scored_images())
def test_rank_metrics_survive_a_rising_map(images):
    y_true, probability = images
    before = at(y_true, probability)

    after = at(y_true, 0.1 + probability**3 / 2, threshold=0.1 + 0.5**3 / 2)

    unchanged = [name for name in METRICS if name not in ("brier", "ece")]
    assert [after[name] for name in unchanged] == pytest.approx([before[name] for name in unchanged], nan_ok=True)


@given(scored_images(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(images, random):
    order = list(range(len(images[0])))
    random.shuffle(order)

    shuffled = at(images[0][order], images[1][order])

    assert shuffled == pytest.approx(at(*images), nan_ok=True)


def test_calibration_error_is_the_distance_from_frequencies():
    y_true = np.repeat([1, 0, 1, 0], [20, 80, 70, 30])
    calibrated = np.repeat([0.2, 0.7], 100)

    assert expected_calibration_error(y_true, calibrated) == pytest.approx(0)
    assert expected_calibration_error(y_true, calibrated + np.repeat([0.1, -0.2], 100)) == pytest.approx(0.15)


@given(scored_images())
def test_calibration_error_is_at_least_the_error_in_the_large(images):
    y_true, probability = images

    error = expected_calibration_error(y_true, probability)

    assert abs(y_true.mean() - probability.mean()) - 1e-12 <= error <= np.abs(y_true - probability).mean() + 1e-12


@given(st.integers(10, 300), st.integers(2, 10))
def test_bins_of_distinct_probabilities_have_equal_mass(n_images, n_bins):
    bins = equal_mass_bins(np.linspace(0, 1, n_images), n_bins)

    sizes = np.bincount(bins, minlength=n_bins)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(bins) >= 0).all()


@given(scored_images())
def test_equal_probabilities_share_a_bin(images):
    probability = images[1]
    bins = equal_mass_bins(probability)

    assert all(len(np.unique(bins[probability == value])) == 1 for value in probability)


def test_majority_is_the_commonest_class():
    y_true = np.eye(3)[[0, 2, 2, 1, 2]]

    assert majority_baseline(y_true, ("a", "b", "c")) == {"class": "c", "accuracy": 0.6}
    assert majority_baseline(np.vstack((y_true, [[np.nan] * 3])), ("a", "b", "c"))["accuracy"] == 0.6
    assert majority_baseline(np.zeros((0, 3)), ("a", "b", "c"))["accuracy"] is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_majority_has_the_accuracy_of_scikit_learns_dummy(numbers):
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(numbers), 1)), numbers)

    found = majority_baseline(np.eye(4)[numbers], range(4))

    assert found["accuracy"] == pytest.approx(dummy.score(np.zeros((len(numbers), 1)), numbers))
    assert numbers.count(found["class"]) == max(map(numbers.count, numbers))
