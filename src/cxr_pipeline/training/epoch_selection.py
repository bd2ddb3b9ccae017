"""Metrics of an epoch on the validation images, and the selection of the epoch of the final weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd

Monitor = Literal["val_auc", "val_average_precision", "val_accuracy", "val_recall", "val_loss"]
MONITORS: tuple[Monitor, ...] = get_args(Monitor)


@dataclass(frozen=True)
class EpochSelector:
    """Select the latest epoch that is as good as the best one, up to a tolerance.

    Metrics on a small validation set are noisy, and the maximum of many noisy values is optimistic. Among epochs that
    cannot be distinguished, the latest is selected, which has the lowest learning rate. This is the idea of the
    one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984).

    The metric ``monitor`` is a column of the history; ``val_loss`` is minimised, every other metric maximised. With the
    ``tolerance``, an epoch may be worse than the best by so many units of the metric. A phase stops after ``patience``
    epochs without a newly selected one; None to never stop early.

    Example:
        >>> history = [{"val_auc": auc} for auc in (0.70, 0.90, 0.895, 0.80)]
        >>> EpochSelector("val_auc", tolerance=0.01, patience=None).select(history)
        2
    """

    monitor: str
    tolerance: float
    patience: int | None

    @classmethod
    def of_training(cls, *, monitor: str, tolerance: float, patience: int | None, folds: int, **_: object) -> Self:
        """Return the selector for the parameters of a training.

        Of an ensemble, the last epoch of each network is selected and no network stops early: its validation images
        give the scores on which calibration and threshold are fitted, and choose nothing before.
        """
        return cls(monitor, math.inf, None) if folds > 1 else cls(monitor, tolerance, patience)

    def select(self, history: Sequence[Mapping[str, Any]]) -> int:
        """Return the index of the selected row. NaN is worse than any number."""
        values = np.array([row[self.monitor] for row in history], np.float64)
        merits = np.nan_to_num(-values if self.monitor == "val_loss" else values, nan=-np.inf, posinf=np.inf)
        return int(np.flatnonzero(merits >= merits.max() - self.tolerance)[-1])

    def select_rows(self, history: pd.DataFrame) -> pd.DataFrame:
        """Return the selected row of each ``member`` of an ensemble from a table of all epochs."""
        positions = [
            rows.index[self.select([{self.monitor: value} for value in rows[self.monitor]])]
            for _, rows in history.groupby("member", sort=True)
        ]
        return history.loc[positions]

    def stop(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """Return the number of epochs after which early stopping ends a phase with this history, or None."""
        if self.patience is None:
            return None
        lengths = range(1, len(history) + 1)
        return next((n for n in lengths if n - 1 - self.select(history[:n]) >= self.patience), None)


def validation_metrics(y_true: np.ndarray, y_score: np.ndarray, *, exclusive: bool) -> dict[str, float]:
    """Compute the metrics of each output over its known labels, and return their means over the outputs.

    Labels [n, k] are 0, 1 or NaN for unknown. Each output with a probability of at least 0.5 is predicted; of exclusive
    outputs, it is the one with the highest probability, and ``val_accuracy`` is the fraction of images for which that
    is the true one. A metric is NaN if no output has the labels that it needs.
    """
    highest = y_score.argmax(axis=1)
    predicted = highest[:, np.newaxis] == np.arange(y_score.shape[1]) if exclusive else y_score >= 0.5
    known = ~np.isnan(y_true)
    of_outputs = [
        _output_metrics(y_true[rows, output] > 0.5, y_score[rows, output], predicted[rows, output])
        for output, rows in enumerate(known.T)
    ]
    means = {str(name): float(value) for name, value in pd.DataFrame(of_outputs).mean().items()}
    return means | ({"val_accuracy": float(np.mean(highest == y_true.argmax(axis=1)))} if exclusive else {})


def _output_metrics(positive: np.ndarray, y_score: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Metrics of one output; labels, probabilities and predictions are [n]."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    has_positives, has_negatives = bool(positive.any()), not positive.all()
    return {
        "val_auc": float(roc_auc_score(positive, y_score)) if has_positives and has_negatives else math.nan,
        "val_average_precision": float(average_precision_score(positive, y_score)) if has_positives else math.nan,
        "val_accuracy": float(np.mean(predicted == positive)) if len(positive) else math.nan,
        "val_recall": float(np.mean(predicted[positive])) if has_positives else math.nan,
        "val_specificity": float(np.mean(~predicted[~positive])) if has_negatives else math.nan,
    }
