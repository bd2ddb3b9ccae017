import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scores import draw_labels

from cxr_pipeline.evaluation.bootstrap import SortedImages, draw_weights, sort_outputs
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, equal_mass_bins
from cxr_pipeline.evaluation.score_tables import Scores


def resampled_metrics(y_true, probability, predicted, patients, *, replicates, seed):
    """Compute the metrics of bootstrap replicates one at a time, from the images of the drawn patients.

    Return a table [replicates, metrics] for each output; NaN in replicates without images of both classes.
    """
    ids = np.unique(patients)
    rows = []
    for drawn in np.random.default_rng(seed).integers(len(ids), size=(replicates, len(ids))):
        images = np.concatenate([np.flatnonzero(patients == ids[number]) for number in drawn])
        columns = zip(y_true[images].T, probability[images].T, predicted[images].T, strict=True)
        rows.append([binary_metrics(*column) if {0, 1} <= set(column[0]) else {} for column in columns])
    return [pd.DataFrame(list(column), columns=METRICS, dtype=float) for column in zip(*rows, strict=True)]


def test_replicates_match_a_loop_over_resampled_patients():
    y_true, probability, predicted = draw_labels(60)
    numbers = np.random.default_rng(1).integers(0, 15, size=60)
    # Some replicates contain no positive image of the second output, or no negative one of the third.
    y_true[~np.isin(numbers, (3, 5)), 1:] = 0, 1
    images = y_true, probability.round(1), predicted
    expected = resampled_metrics(*images, numbers, replicates=150, seed=3)
    assert all(50 < table["auc"].count() < 145 for table in expected[1:])
    outputs, weights = (
        sort_outputs(Scores(("a", "b", "c"), *images), np.arange(60)),
        list(draw_weights(numbers, 150, 3)),
    )
    for output, table in zip(outputs, expected, strict=True):
        found = pd.concat([pd.DataFrame(output.replicate(drawn)) for drawn in weights], ignore_index=True)
        for name in METRICS[:-1]:  # the bins of a replicate's calibration error are those of all images
            np.testing.assert_allclose(found[name], table[name], atol=1e-12, err_msg=name)
        errors = np.concatenate([output.calibration_error(drawn) for drawn in weights])
        kept = table["auc"].notna()
        np.testing.assert_allclose(found["ece"][kept], errors[kept])


IMAGE = st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 12), st.booleans(), st.integers(0, 4))


@settings(max_examples=60)
@given(st.lists(IMAGE, max_size=38), st.integers(0, 12))
def test_an_image_of_weight_w_counts_like_w_copies_of_it(images, cell):
    # With these two images, both classes remain under the weights.
    columns = np.array([(0.0, 3, False, 1), (1.0, cell, True, 2), *images]).T
    y_true, probability, predicted, weights = columns[0], columns[1] / 12, columns[2] == 1, columns[3].astype(int)

    both = np.stack((weights, np.ones(len(weights)))).astype(float)
    values = SortedImages(y_true, probability, predicted).replicate(both)

    copies = np.repeat(np.arange(len(y_true)), weights)
    bins = equal_mass_bins(probability)[copies]  # the bins are those of the images without weights
    gaps = np.bincount(bins, weights=(y_true - probability)[copies])
    expected = binary_metrics(y_true[copies], probability[copies], predicted[copies])
    expected["ece"] = np.abs(gaps).sum() / len(copies)
    unweighted = binary_metrics(y_true, probability, predicted)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert {name: values[name][1] for name in METRICS} == pytest.approx(unweighted, nan_ok=True, abs=1e-12)
