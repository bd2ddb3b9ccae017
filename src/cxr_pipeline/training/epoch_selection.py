"""Which epoch's weights are kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochSelector:
    """The latest epoch that is as good as the best one, up to a tolerance.

    Validation sets are small and their metrics noisy, and the largest of many noisy values flatters itself. Among
    epochs that cannot be told apart the latest is kept, at the lowest learning rate: the idea of the
    one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984).

    Args:
        monitor: column of the history; of ``val_loss`` small is good, of all others large.
        tolerance: how much worse than the best an epoch may be, in units of the metric.
        patience: epochs without one that is kept before a phase stops; None for never.
    """

    monitor: str
    tolerance: float
    patience: int | None

    def select(self, history: Sequence[Mapping[str, Any]]) -> int:
        """Index of the row whose weights are kept."""
        merits = [self._merit(row) for row in history]
        enough = max(merits) - self.tolerance
        return max(place for place, merit in enumerate(merits) if merit >= enough)

    def exhausted(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a phase with these rows has waited long enough."""
        return bool(rows) and self.patience is not None and len(rows) - 1 - self.select(rows) >= self.patience

    def _merit(self, row: Mapping[str, Any]) -> float:
        value = float(row[self.monitor])
        if math.isnan(value):
            return -math.inf
        return -value if self.monitor == "val_loss" else value
