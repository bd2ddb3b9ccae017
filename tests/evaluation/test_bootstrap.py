import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.bootstrap import SortedImages, draw_weights
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, equal_mass_bins

IMAGE = st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 12), st.booleans(), st.integers(0, 4))


@settings(max_examples=60)
@given(st.lists(IMAGE, max_size=38), st.integers(0, 12))
def test_an_image_of_weight_w_counts_like_w_copies_of_it(images, cell):
    # With these two images, both classes remain under the weights.
    columns = np.array([(0.0, 3, False, 1), (1.0, cell, True, 2), *images]).T
    y_true, probability, predicted, weights = columns[0], columns[1] / 12, columns[2] == 1, columns[3].astype(int)
    one, every = weights.astype(float), np.ones(len(weights))
    sorted_images = SortedImages(y_true, probability, predicted)

    values = sorted_images.replicate(np.stack((one, every)))

    known = np.flatnonzero(~np.isnan(y_true))
    copies = np.repeat(known, weights[known])
    # The bins of the calibration error are those of the images without weights.
    bins = np.repeat(equal_mass_bins(probability[known]), weights[known])
    expected = binary_metrics(y_true[copies], probability[copies], predicted[copies])
    expected["ece"] = np.abs(np.bincount(bins, weights=(y_true - probability)[copies])).sum() / len(copies)
    unweighted = binary_metrics(y_true, probability, predicted)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert {name: values[name][1] for name in METRICS} == pytest.approx(unweighted, nan_ok=True, abs=1e-12)
    np.testing.assert_array_equal(sorted_images.calibration_error(np.stack((one, every))), values["ece"])


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
