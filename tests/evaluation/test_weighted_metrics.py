import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics, equal_mass_bins
from cxr_pipeline.evaluation.weighted_metrics import WeightedMetrics

OF_SCORES = {"auc": roc_auc_score, "average_precision": average_precision_score, "brier": brier_score_loss}
OF_DECISIONS = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "sensitivity": recall_score,
    "specificity": lambda *labels, **options: recall_score(*labels, pos_label=0, **options),
    "precision": lambda *labels, **options: precision_score(*labels, zero_division=np.nan, **options),
    "f1": f1_score,
}


@st.composite
def weighted_images(draw):
    """Labels, tied probabilities, decisions, and weights with which images of both classes remain."""
    image = st.tuples(st.sampled_from([0, 1]), st.integers(0, 12), st.booleans(), st.integers(0, 4))
    images = np.array([(0, 3, False, 1), (1, draw(st.integers(0, 12)), True, 2), *draw(st.lists(image, max_size=38))])
    y_true, cells, predicted, weights = images.T.astype(float)
    return y_true, cells / 12, predicted == 1, weights


@settings(max_examples=40)
@given(weighted_images())
def test_weighted_metrics_are_those_of_scikit_learn(images):
    y_true, probability, predicted, weights = images
    bins = equal_mass_bins(probability)
    gaps = [(weights * (y_true - probability))[bins == number].sum() for number in range(10)]
    expected = {
        **{name: score(y_true, probability, sample_weight=weights) for name, score in OF_SCORES.items()},
        **{name: score(y_true, predicted, sample_weight=weights) for name, score in OF_DECISIONS.items()},
        "ece": np.abs(gaps).sum() / weights.sum(),
    }
    order = np.argsort(-probability, kind="stable")
    metrics = WeightedMetrics(y_true[order] == 1, probability[order], predicted[order])

    values = metrics(np.stack((weights[order], np.ones(len(order)))))

    unweighted = binary_metrics(y_true, probability, predicted)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert {name: values[name][1] for name in METRICS} == pytest.approx(unweighted, nan_ok=True, abs=1e-12)
