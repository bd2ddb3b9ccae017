"""The figures of a task's test images by name, and the images that its model classified wrongly."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.curves import CURVES, draw_curve, score_histogram
from cxr_pipeline.report.figures.intervals import draw_class_auc
from cxr_pipeline.report.figures.style import INCHES_DENSE, INCHES_WIDE
from cxr_pipeline.report.formatting import Document

NO_LABELS = "Nothing to draw: no test image has a known label."


def draw_scores(scores: Scores, metrics: Document, *, kind: str, classes: Sequence[str]) -> dict[str, bytes]:
    """Draw the scores of the test images, PNG bytes by name; ``metrics`` is the content of ``metrics.json``."""
    curves = {name: draw_curve(name, scores, metrics) for name in CURVES}
    if kind == "binary":
        histogram = score_histogram(scores, metrics, classes)
        return {**curves, "score_histogram": histogram, "confusion": confusion_matrix(scores, classes)}
    several = {"class_auc": draw_class_auc(metrics), **{f"class_{name}": png for name, png in curves.items()}}
    return several | ({"confusion_matrix": confusion_matrix(scores, classes)} if kind == "multiclass" else {})


def rank_mistakes(
    scores: Scores, *, kind: str, classes: Sequence[str], thresholds: Mapping[str, float], limit: int = 9
) -> pd.DataFrame:
    """Rank the images that are classified wrongly by confidence.

    Exclusive classes are ranked by how far the probability of the predicted class exceeds that of the true one, others
    by the distance from the threshold. Columns are ``position`` of the image among the scores, and its ``caption``; the
    most confident of at most ``limit`` comes first.
    """
    true, predicted = _index(np.nan_to_num(scores.y_true)), _index(scores.predicted)
    if kind == "multiclass":
        images, output = np.arange(len(true)), predicted
        lead = scores.probability[images, predicted] - scores.probability[images, true]
        distance = np.where(_is_known(scores) & (true != predicted), lead, -np.inf)
    else:
        beyond = _beyond_threshold(scores, thresholds)
        distance, output = beyond.max(axis=1), beyond.argmax(axis=1)
    wrong = np.flatnonzero(distance > -np.inf)
    worst = wrong[np.argsort(-distance[wrong], kind="stable")][:limit]
    captions = []
    for image in worst:
        text = f"{classes[true[image]]} predicted as {classes[predicted[image]]}"
        if kind == "multilabel":
            sign = "positive" if scores.predicted[image, output[image]] else "negative"
            text = f"{classes[output[image]]}: false {sign}"
        captions.append(f"{text}, {scores.probability[image, output[image]]:.3f}")
    return pd.DataFrame({"position": worst, "caption": pd.Series(captions, dtype="string")})


def _beyond_threshold(scores: Scores, thresholds: Mapping[str, float]) -> NDArray[np.float64]:
    """Return how far each output [n, k] is on the wrong side of its threshold; -inf if correct or unknown.

    The distance is relative to the range on that side of the threshold. Otherwise a threshold far from 0.5 would hide
    either all false positives or all false negatives.
    """
    threshold = np.array([thresholds[output] for output in scores.outputs])
    room = np.where(scores.predicted, 1 - threshold, threshold)
    distance = np.abs(scores.probability - threshold) / np.maximum(room, np.finfo(float).tiny)
    wrong = ~np.isnan(scores.y_true) & (scores.predicted != (scores.y_true == 1))
    return np.where(wrong, distance, -np.inf)


def confusion_matrix(scores: Scores, classes: Sequence[str]) -> bytes:
    """Draw the confusion matrix of exclusive classes: counts of images with known labels, and their share of the row.

    With one output, ``classes`` are the negative and the positive one.
    """
    from sklearn.metrics import confusion_matrix as count

    known = _is_known(scores)
    if not known.any():
        return style.message(NO_LABELS)
    n = len(classes)
    counts = count(_index(scores.y_true[known]), _index(scores.predicted[known]), labels=range(n))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [textwrap.fill(name, 14, break_long_words=False) for name in classes]
    width = INCHES_WIDE if n == 2 else INCHES_DENSE
    with style.sheet(height=0.9 * width, width=width) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.2)
        for (row, column), number in np.ndenumerate(counts):
            # Zeros are left blank among many classes, so that the other cells stand out.
            text = f"{number}\n{100 * shares[row, column]:.0f} %" if number or n == 2 else ""
            text = text if counts[row].any() else "no images"
            color = "white" if shares[row, column] > 0.7 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=max(6.5, 14 - 0.6 * n))
        axes.set_xticks(range(n), names, rotation=45 if n > 2 else 0, ha="right" if n > 2 else "center",
                        rotation_mode="anchor", fontsize=9)  # fmt: skip
        axes.set_yticks(range(n), names, fontsize=9)
        axes.set(xlabel="predicted class", ylabel="true class")
        return style.png(figure)


def _is_known(scores: Scores) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(scores.y_true).any(axis=1))


def _index(labels: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the class of each row [n] of labels or predictions [n, k]; one column is that of the positive class."""
    return labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0].astype(np.intp)
