import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, equal_mass_bins
from cxr_pipeline.evaluation.weighted_metrics import WeightedMetrics

IMAGE = st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 12), st.booleans(), st.integers(0, 4))


@settings(max_examples=60)
@given(st.lists(IMAGE, max_size=38), st.integers(0, 12))
def test_an_image_of_weight_w_counts_like_w_copies_of_it(images, cell):
    # With these two images, both classes remain under the weights.
    columns = np.array([(0.0, 3, False, 1), (1.0, cell, True, 2), *images]).T
    y_true, probability, predicted, weights = columns[0], columns[1] / 12, columns[2] == 1, columns[3].astype(int)
    order = np.argsort(-probability, kind="stable")
    metrics = WeightedMetrics(y_true[order] == 1, probability[order], predicted[order])

    values = metrics(np.stack((weights[order], np.ones(len(order)))).astype(float))

    copies = np.repeat(np.arange(len(y_true)), weights)
    bins = equal_mass_bins(probability)[copies]  # the bins are those of the images without weights
    gaps = np.bincount(bins, weights=(y_true - probability)[copies])
    expected = binary_metrics(y_true[copies], probability[copies], predicted[copies])
    expected["ece"] = np.abs(gaps).sum() / len(copies)
    unweighted = binary_metrics(y_true, probability, predicted)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert {name: values[name][1] for name in METRICS} == pytest.approx(unweighted, nan_ok=True, abs=1e-12)
