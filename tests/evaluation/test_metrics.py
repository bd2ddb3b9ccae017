import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, equal_mass_bins, expected_calibration_error


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
    metrics = binary_metrics(y_true, probability, np.asarray(probability) >= 0.5)
    assert {name for name, value in metrics.items() if np.isnan(value)} == undefined


@pytest.mark.parametrize(
    ("y_true", "probability", "predicted", "error", "message"),
    [
        ([0, 1, 1], [np.nan, np.nan, 0.5], [True] * 3, UserError, r"2 of 3 images.*learning_rate"),
        ([0, 2], [0.1, 0.2], [True] * 2, ValueError, "0, 1 or NaN"),
        ([0, 1], [0.1, 1.2], [True] * 2, ValueError, r"\[0, 1\]"),
        ([0, 1], [0.1], [True] * 2, ValueError, "the same shape"),
    ],
)
def test_wrong_arrays_are_rejected(y_true, probability, predicted, error, message):
    with pytest.raises(error, match=message):
        binary_metrics(y_true, probability, predicted)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 40)), min_size=1, max_size=60))
def test_calibration_error_lies_between_its_bounds_and_bins_keep_ties_together(images):
    y_true, cells = np.array(images).T
    probability = cells / 40
    error = expected_calibration_error(y_true, probability)
    assert abs(y_true.mean() - probability.mean()) - 1e-12 <= error <= np.abs(y_true - probability).mean() + 1e-12
    bins = equal_mass_bins(probability)
    assert len(set(zip(probability, bins, strict=True))) == len(np.unique(probability))


@given(st.integers(10, 300), st.integers(2, 10))
def test_bins_of_distinct_probabilities_have_equal_size(n_images, n_bins):
    bins = equal_mass_bins(np.linspace(0, 1, n_images), n_bins)
    sizes = np.bincount(bins, minlength=n_bins)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(bins) >= 0).all()
