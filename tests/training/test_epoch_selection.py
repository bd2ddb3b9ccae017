import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.training.epoch_selection import EpochSelector


def history(*aucs: float) -> list[dict[str, float]]:
    return [{"val_auc": auc} for auc in aucs]


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
def test_the_latest_epoch_within_the_tolerance_is_selected(aucs, selected) -> None:
    assert EpochSelector("val_auc", tolerance=0.01, patience=None).select(history(*aucs)) == selected


def test_the_smallest_loss_is_best() -> None:
    rows = [{"val_loss": 0.6}, {"val_loss": 0.3}, {"val_loss": 0.4}]
    assert EpochSelector("val_loss", tolerance=0.0, patience=None).select(rows) == 1
    assert EpochSelector("val_loss", tolerance=0.2, patience=None).select(rows) == 2


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12), st.floats(0, 0.2))
def test_the_selected_epoch_was_selected_when_it_ended(aucs, tolerance) -> None:
    """Weights need to be kept only of epochs that are selected when they end."""
    selector, rows = EpochSelector("val_auc", tolerance, None), history(*aucs)
    selected = selector.select(rows)
    assert selector.select(rows[: selected + 1]) == selected


def test_patience_counts_epochs_since_the_selected_one() -> None:
    rows = history(0.8, 0.9, 0.7, 0.89, 0.8, 0.8, 0.95)
    selector = EpochSelector("val_auc", tolerance=0.01, patience=2)
    assert [selector.stop(rows[:n]) for n in range(8)] == [None] * 6 + [6, 6]
    assert EpochSelector("val_auc", tolerance=0.0, patience=None).stop(rows * 10) is None
