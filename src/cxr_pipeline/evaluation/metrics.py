"""Metrics for one output on labelled images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.common.errors import UserError

METRICS = (
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "brier",
    "ece",
)
N_BINS = 10


def check_scores(y_score: NDArray[np.float64]) -> None:
    """Raise a `UserError` if a score [n, k] is NaN, and a `ValueError` if one lies outside [0, 1]."""
    missing = np.isnan(y_score)
    if missing.any():
        raise UserError(
            f"The model returned NaN instead of a probability for {missing.any(axis=1).sum()} of {len(y_score)} "
            "images: its training diverged. Train again with a lower learning rate, for example "
            "--params <task>.training.learning_rate=0.0001"
        )
    if len(y_score) and (y_score.min() < 0 or y_score.max() > 1):
        raise ValueError(f"Scores must lie in [0, 1]. Received: {y_score.min()} to {y_score.max()}")


def known_images(y_true: ArrayLike, y_score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels, bool [m], and scores, float64 [m], of the images whose label is known, after checking them.

    Args:
        y_true: [n], 1 positive, 0 negative, NaN unknown.
        y_score: [n], in [0, 1].

    Raises:
        UserError: a score is NaN.
        ValueError: the shapes differ, a label is neither 0, 1 nor NaN, or a score lies outside [0, 1].
    """
    labels = np.asarray(y_true, dtype=np.float64)
    scores = np.asarray(y_score, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"Labels and scores must have the same shape [n]. Received: {labels.shape} and {scores.shape}")
    known = ~np.isnan(labels)
    labels, scores = labels[known], scores[known]
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"Labels must be 0, 1 or NaN. Received: {np.unique(labels)[:10]}")
    check_scores(scores[:, None])
    return labels == 1, scores


def confusion_rates(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Compute accuracy, balanced accuracy, sensitivity, specificity, precision and F1 from confusion matrices.

    The cells are numbers or arrays [...] of counts or sums of weights. A metric is float64 [...], NaN where undefined.
    """
    tp, fp, fn, tn = (np.asarray(cell, dtype=np.float64) for cell in (tp, fp, fn, tn))
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = tp / (tp + fn)
        specificity = tn / (tn + fp)
        return {
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": tp / (tp + fp),
            "f1": 2 * tp / (2 * tp + fp + fn),
        }


def equal_mass_bins(probability: ArrayLike, n_bins: int = N_BINS) -> NDArray[np.intp]:
    """Return the bin of each image [n] by increasing probability, 0 .. n_bins - 1.

    Bins are of about equal size, but images of equal probability share one, so that some bins may stay empty.
    """
    probability = np.asarray(probability, dtype=np.float64)
    n_images = len(probability)
    if n_images == 0:
        return np.zeros(0, dtype=np.intp)
    lasts = (n_images * np.arange(1, n_bins) - 1) // n_bins
    return np.searchsorted(np.sort(probability)[lasts], probability)


def expected_calibration_error(y_true: ArrayLike, probability: ArrayLike) -> float:
    """Compute the mean distance between probabilities and observed frequencies over ten bins of equal size.

    With bins of equal size it is also known as the adaptive calibration error. It lies in [0, 1], is NaN without known
    labels, and is biased upwards: even a perfectly calibrated model has an error above 0 on a finite set of images.

    References:
        Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
        Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019.
    """
    positive, probability = known_images(y_true, probability)
    if len(positive) == 0:
        return float("nan")
    gaps = np.bincount(equal_mass_bins(probability), weights=positive - probability)
    return float(np.abs(gaps).sum() / len(positive))


def binary_metrics(y_true: ArrayLike, probability: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Compute the ``METRICS`` of one output, in that order.

    They are NaN where undefined: ``auc``, ``average_precision`` and ``balanced_accuracy`` without images of both
    classes, ``sensitivity`` without positive images, ``specificity`` without negative ones, ``precision`` without
    positive decisions.

    Args:
        y_true: [n], 1 positive, 0 negative; images with NaN are left out.
        probability: [n], in [0, 1].
        predicted: bool [n], the decisions.

    Raises:
        UserError: a score is NaN.
        ValueError: a label or probability has another value.

    Example:
        >>> round(binary_metrics([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], predicted=[0, 0, 0, 1])["auc"], 2)
        0.75
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    known = ~np.isnan(np.asarray(y_true, dtype=np.float64))
    positive, probability = known_images(y_true, probability)
    predicted = np.asarray(predicted, dtype=np.bool_)
    tp, fp = ((predicted[known] & side).sum() for side in (positive, ~positive))
    rates = confusion_rates(tp, fp, positive.sum() - tp, (~positive).sum() - fp)
    values = {name: float(rate) for name, rate in rates.items()}
    both = positive.any() and not positive.all()
    values["auc"] = float(roc_auc_score(positive, probability)) if both else float("nan")
    values["average_precision"] = float(average_precision_score(positive, probability)) if both else float("nan")
    values["brier"] = float(brier_score_loss(positive, probability, pos_label=True)) if len(positive) else float("nan")
    values["ece"] = expected_calibration_error(positive, probability)
    return {name: values[name] for name in METRICS}
