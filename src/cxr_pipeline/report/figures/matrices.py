"""The confusion matrix."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.style import INCHES_DENSE, INCHES_WIDE, message, png, sheet

NO_LABELS = "Nothing to draw: no test image has a known label."


def confusion_matrix(scores: Scores, classes: Sequence[str]) -> bytes:
    """Draw the confusion matrix of exclusive classes: counts of images with known labels, and their share of the row.

    With one output, ``classes`` are the negative and the positive one.
    """
    from sklearn.metrics import confusion_matrix as count

    known = ~np.isnan(scores.y_true).any(axis=1)
    if not known.any():
        return message(NO_LABELS)
    n = len(classes)
    counts = count(_index(scores.y_true[known]), _index(scores.predicted[known]), labels=range(n))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [textwrap.fill(name, 14, break_long_words=False) for name in classes]
    width = INCHES_WIDE if n == 2 else INCHES_DENSE
    with sheet(height=0.9 * width, width=width) as figure:
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
        return png(figure)


def _index(labels: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the class of each row [n] of labels or predictions [n, k]; one column is that of the positive class."""
    return labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0].astype(np.intp)
