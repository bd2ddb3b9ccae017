import numpy as np
import pandas as pd
import pytest
from random_scores import draw_classes, draw_labels

from cxr_pipeline.evaluation.bootstrap import DecidedImages, draw_weights
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics
from cxr_pipeline.evaluation.score_tables import Scores


def resampled_metrics(y_true, probability, predicted, patients, *, exclusive, replicates, seed):
    """Compute the metrics of bootstrap replicates one at a time, from the images of the drawn patients.

    Return a table [replicates, metrics] for each output, and last for their mean; NaN where dropped.
    """
    ids = np.unique(patients)
    rows = []
    for drawn in np.random.default_rng(seed).integers(len(ids), size=(replicates, len(ids))):
        images = np.concatenate([np.flatnonzero(patients == ids[number]) for number in drawn])
        columns = zip(y_true[images].T, probability[images].T, predicted[images].T, strict=True)
        outputs = [binary_metrics(*column) if {0, 1} <= set(column[0]) else {} for column in columns]
        mean = pd.DataFrame(outputs, columns=METRICS, dtype=float).mean()
        if exclusive:
            mean["accuracy"] = (predicted & (y_true == 1))[images].any(axis=1).mean()
            mean["balanced_accuracy"] = mean["sensitivity"]
        rows.append([*outputs, mean])
    return [pd.DataFrame(list(column), columns=METRICS) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("exclusive", [False, True])
def test_replicates_match_a_loop_over_resampled_patients(exclusive):
    y_true, probability, predicted = draw_classes(60) if exclusive else draw_labels(60)
    numbers = np.random.default_rng(1).integers(0, 15, size=60)
    if not exclusive:
        # Some replicates contain no positive image of the second output, or no negative one of the third.
        y_true[~np.isin(numbers, (3, 5)), 1:] = 0, 1
    y_true[:, 0][np.isnan(y_true).all(axis=1)] = 1
    images = y_true, probability.round(1), predicted
    expected = resampled_metrics(*images, numbers, exclusive=exclusive, replicates=150, seed=3)
    if not exclusive:
        assert all(50 < table["auc"].count() < 145 for table in expected[1:3])

    decided = DecidedImages(Scores(("a", "b", "c"), *images), np.arange(60), exclusive=exclusive)
    chunks = [
        (decided.replicate(weights), decided.calibration_errors(weights)) for weights in draw_weights(numbers, 150, 3)
    ]

    for place, table in enumerate(expected):
        for name in METRICS[:-1]:  # the bins of a replicate's calibration error are those of all images
            found = np.concatenate([replicates[place][name] for replicates, _ in chunks])
            np.testing.assert_allclose(found, table[name], atol=1e-12, err_msg=name)
    errors = np.concatenate([errors for _, errors in chunks], axis=1)
    kept = expected[0]["auc"].notna()
    np.testing.assert_allclose(np.concatenate([chunk[0]["ece"] for chunk, _ in chunks])[kept], errors[0][kept])
