"""Metrics of an epoch on the validation images."""

import math

import numpy as np
import pandas as pd


def validation_metrics(y_true: np.ndarray, y_score: np.ndarray, *, exclusive: bool) -> dict[str, float]:
    """Compute the metrics of each output over its known labels, and return their means over the outputs.

    Args:
        y_true: labels [n, k], 0, 1 or NaN for unknown.
        y_score: probabilities [n, k].
        exclusive: predict the output with the highest probability, and let ``val_accuracy`` be the fraction of images
            for which it is the true one; otherwise predict each output with a probability of at least 0.5.

    Returns:
        Metrics by column of the history; NaN if no output has the labels that a metric needs.

    Example:
        >>> y_true, y_score = np.array([[1], [1], [0], [0]]), np.array([[0.9], [0.4], [0.6], [0.1]])
        >>> metrics = validation_metrics(y_true, y_score, exclusive=False)
        >>> metrics["val_auc"], metrics["val_recall"]
        (0.75, 0.5)
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
