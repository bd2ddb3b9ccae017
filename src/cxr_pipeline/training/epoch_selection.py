"""Select the epoch of the final weights, and the epoch after which training stops."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Monitor = Literal["val_auc", "val_average_precision", "val_accuracy", "val_recall", "val_loss"]
MONITORS: tuple[Monitor, ...] = get_args(Monitor)


@dataclass(frozen=True)
class EpochSelector:
    """Select the latest epoch that is as good as the best one, up to a tolerance.

    Metrics on a small validation set are noisy, and the maximum of many noisy values is optimistic. Among epochs that
    cannot be distinguished, the latest is selected, which has the lowest learning rate. This is the idea of the
    one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984).

    Args:
        monitor: metric, a column of the history. ``val_loss`` is minimised, every other metric maximised.
        tolerance: how much worse than the best an epoch may be, in units of the metric.
        patience: a phase stops after this many epochs without a newly selected one; None to never stop early.

    Example:
        >>> history = [{"val_auc": auc} for auc in (0.70, 0.90, 0.895, 0.80)]
        >>> EpochSelector("val_auc", tolerance=0.01, patience=None).select(history)
        2
    """

    monitor: str
    tolerance: float
    patience: int | None

    def select(self, history: Sequence[Mapping[str, Any]]) -> int:
        """Return the index of the selected row. NaN is worse than any number."""
        merits = [self._merit(row) for row in history]
        sufficient = max(merits) - self.tolerance
        return max(index for index, merit in enumerate(merits) if merit >= sufficient)

    def stop(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """Return the number of epochs after which early stopping ends a phase with this history, or None."""
        if self.patience is None:
            return None
        lengths = range(1, len(history) + 1)
        return next((n for n in lengths if n - 1 - self.select(history[:n]) >= self.patience), None)

    def _merit(self, row: Mapping[str, Any]) -> float:
        value = float(row[self.monitor])
        if math.isnan(value):
            return -math.inf
        return -value if self.monitor == "val_loss" else value
