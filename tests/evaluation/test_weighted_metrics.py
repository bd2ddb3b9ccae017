import numpy as np
import pytest
from hypothesis import given
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

SCORES = {"auc": roc_auc_score, "average_precision": average_precision_score, "brier": brier_score_loss}
DECISIONS = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "sensitivity": recall_score,
    "specificity": lambda *labels, **options: recall_score(*labels, pos_label=0, **options),
    "precision": lambda *labels, **options: precision_score(*labels, zero_division=np.nan, **options),
    "f1": f1_score,
}


def by_scikit_learn(y_true, probability, predicted, weights):
    """Each metric with ``sample_weight``; ``ece`` from its definition."""
    bins = equal_mass_bins(probability)
    gaps = [(weights * (y_true - probability))[bins == number].sum() for number in range(10)]
    decision = predicted.astype(float)
    return {
        **{name: score(y_true, probability, sample_weight=weights) for name, score in SCORES.items()},
        **{name: score(y_true, decision, sample_weight=weights) for name, score in DECISIONS.items()},
        "ece": np.abs(gaps).sum() / weights.sum(),
    }


@st.composite
def weighted_images(draw):
    """Tied images of both classes, and weights under which both classes are left."""
    n_images = draw(st.integers(2, 40))
    column = lambda values: np.array(draw(st.lists(values, min_size=n_images, max_size=n_images)), dtype=float)  # noqa: E731
    y_true, weights = column(st.sampled_from([0, 1])), column(st.integers(0, 4))
    y_true[:2], weights[:2] = (0, 1), np.maximum(weights[:2], 1)
    return y_true, column(st.integers(0, 12)) / 12, column(st.booleans()) == 1, weights


@given(weighted_images())
def test_weighted_metrics_are_those_of_scikit_learn(images):
    y_true, probability, predicted, weights = images
    order = np.argsort(-probability, kind="stable")

    values = WeightedMetrics(y_true[order] == 1, probability[order], predicted[order])(weights[order][None])

    expected = by_scikit_learn(y_true, probability, predicted, weights)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(weighted_images())
def test_unit_weights_give_the_metrics_of_the_sample(images):
    y_true, probability, predicted, _ = images
    order = np.argsort(-probability, kind="stable")

    values = WeightedMetrics(y_true[order] == 1, probability[order], predicted[order])(np.ones((1, len(order))))

    expected = binary_metrics(y_true, probability, predicted)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)
