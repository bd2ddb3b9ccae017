import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.training.epoch_selection import EpochSelector, validation_metrics


def history(*aucs):
    return [{"val_auc": auc} for auc in aucs]


def test_an_ensemble_selects_the_last_epoch_and_never_stops():
    settings = {"monitor": "val_auc", "tolerance": 0.01, "patience": 1, "seed": 3}
    rows = history(0.9, 0.5, math.nan)
    ensemble, single = (EpochSelector.of_training(**settings, folds=folds) for folds in (2, 1))
    assert (ensemble.select(rows), ensemble.stop(rows)) == (2, None)
    assert (single.select(rows), single.stop(rows)) == (0, 2)


@pytest.mark.parametrize(
    ("aucs", "selected"),
    [
        ((0.7, 0.9, 0.8), 1),
        ((0.9, 0.895, 0.88), 1),
        ((0.895, 0.9, 0.891), 2),
        ((0.9, 0.9), 1),
        ((math.nan, 0.4), 1),
        ((0.4, math.nan), 0),
        ((math.nan, math.nan), 1),
    ],
)
def test_the_latest_epoch_within_the_tolerance_is_selected(aucs, selected):
    assert EpochSelector("val_auc", tolerance=0.01, patience=None).select(history(*aucs)) == selected


def test_an_epoch_of_each_network_is_selected():
    table = pd.DataFrame({"member": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "val_auc": [0.7, 0.9, 0.8, 0.6]})
    rows = EpochSelector("val_auc", tolerance=0.0, patience=None).select_rows(table)
    assert rows["epoch"].tolist() == [2, 1]


def test_the_smallest_loss_is_best():
    rows = [{"val_loss": 0.6}, {"val_loss": 0.3}, {"val_loss": 0.4}]
    assert EpochSelector("val_loss", tolerance=0.0, patience=None).select(rows) == 1
    assert EpochSelector("val_loss", tolerance=0.2, patience=None).select(rows) == 2


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12), st.floats(0, 0.2))
def test_the_selected_epoch_was_selected_when_it_ended(aucs, tolerance):
    """Weights need to be kept only of epochs that are selected when they end."""
    selector, rows = EpochSelector("val_auc", tolerance, None), history(*aucs)
    selected = selector.select(rows)
    assert selector.select(rows[: selected + 1]) == selected


def test_patience_counts_epochs_since_the_selected_one():
    rows = history(0.8, 0.9, 0.7, 0.89, 0.8, 0.8, 0.95)
    selector = EpochSelector("val_auc", tolerance=0.01, patience=2)
    assert [selector.stop(rows[:n]) for n in range(8)] == [None] * 6 + [6, 6]
    assert EpochSelector("val_auc", tolerance=0.0, patience=None).stop(rows * 10) is None


def test_metrics_of_one_output():
    y_true, y_score = np.array([[1], [1], [1], [0], [0]]), np.array([[0.9], [0.5], [0.2], [0.6], [0.1]])
    expected = {"val_auc": 4 / 6, "val_average_precision": (1 + 2 / 3 + 3 / 4) / 3, "val_accuracy": 3 / 5}
    expected |= {"val_recall": 2 / 3, "val_specificity": 1 / 2}
    assert validation_metrics(y_true, y_score, exclusive=False) == pytest.approx(expected)


def test_metrics_of_several_outputs_are_means_over_outputs_where_they_are_defined():
    rng = np.random.default_rng(0)
    y_true, y_score = rng.integers(0, 2, (40, 4)).astype(np.float32), rng.random((40, 4), np.float32)
    y_true[rng.random((40, 4)) < 0.3] = np.nan
    y_true[:, 2] = 0
    y_true[:, 3] = np.nan
    alone = [
        validation_metrics(y_true[known, output][:, None], y_score[known, output][:, None], exclusive=False)
        for output, known in enumerate(~np.isnan(y_true[:, :3].T))
    ]
    for name, value in validation_metrics(y_true, y_score, exclusive=False).items():
        defined = alone if name in ("val_accuracy", "val_specificity") else alone[:2]
        assert value == pytest.approx(np.mean([row[name] for row in defined]))


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_the_most_probable_of_exclusive_outputs_is_predicted(seed, k):
    rng = np.random.default_rng(seed)
    label, y_score = rng.integers(0, k, 12), rng.dirichlet(np.ones(k), 12).astype(np.float32)
    metrics = validation_metrics(np.eye(k, dtype=np.float32)[label], y_score, exclusive=True)
    predicted = y_score.argmax(axis=1)
    assert metrics["val_accuracy"] == pytest.approx(np.mean(predicted == label))
    recalls = [np.mean(predicted[label == output] == output) for output in np.unique(label)]
    assert metrics["val_recall"] == pytest.approx(np.mean(recalls))
