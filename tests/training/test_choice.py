import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.training.choice import Choice


def history(*aucs: float) -> list[dict[str, float]]:
    return [{"val_auc": auc} for auc in aucs]


@pytest.mark.parametrize(
    ("aucs", "kept"),
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
def test_the_latest_epoch_within_the_tolerance_is_kept(aucs, kept) -> None:
    assert Choice("val_auc", tolerance=0.01, patience=None).kept(history(*aucs)) == kept


def test_of_losses_the_smallest_is_best() -> None:
    rows = [{"val_loss": 0.6}, {"val_loss": 0.3}, {"val_loss": 0.4}]
    assert Choice("val_loss", tolerance=0.0, patience=None).kept(rows) == 1
    assert Choice("val_loss", tolerance=0.2, patience=None).kept(rows) == 2


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12), st.floats(0, 0.2))
def test_keeping_weights_as_epochs_come_ends_with_the_same_epoch(aucs, tolerance) -> None:
    choice, rows, kept = Choice("val_auc", tolerance, None), history(*aucs), None
    for n in range(1, len(rows) + 1):
        if choice.kept(rows[:n]) == n - 1:
            kept = n - 1
    assert kept == choice.kept(rows)


def test_patience_counts_epochs_since_the_one_that_is_kept() -> None:
    choice = Choice("val_auc", tolerance=0.01, patience=2)
    rows = history(0.8, 0.9, 0.7, 0.89, 0.8, 0.8)
    assert [choice.exhausted(rows[:n]) for n in range(7)] == [False, False, False, False, False, False, True]
    assert not Choice("val_auc", tolerance=0.0, patience=None).exhausted(rows * 10)
