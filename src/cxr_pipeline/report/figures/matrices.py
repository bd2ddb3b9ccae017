"""Tables as pictures: decisions by true class, and the classification report."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.style import GREY, INCHES_DENSE, LIGHT, png, sheet, words
from cxr_pipeline.report.words.text import as_text, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, classes: Sequence[str]) -> bytes:
    """Images of two classes by true class (rows) and decision (columns): counts, and their share of the row.

    Args:
        y_true: [n], 1.0 positive, 0.0 negative, NaN unknown (left out).
        probability: [n], of the positive class, in [0, 1].
        threshold: an image is called positive where ``probability >= threshold``.
        classes: the negative and then the positive class.
    """
    from sklearn.metrics import confusion_matrix

    positive, scores = known_images(y_true, probability)
    if not len(positive):
        return words("No confusion matrix: no image has a known label.")
    counts = confusion_matrix(positive, scores >= threshold, labels=[False, True])
    with sheet(height=4.2) as figure:
        axes = figure.subplots()
        _draw_counts(axes, counts, fontsize=14, cell=_exact)
        axes.set_xticks([0, 1], classes)
        axes.set_yticks([0, 1], classes, rotation=90, va="center")
        axes.set(xlabel="decision", ylabel="true class")
        return png(figure)


def confusion_matrix(scores: Scores) -> bytes:
    """Images of several exclusive classes by true class (rows) and decision (columns), with the share of the row.

    A class without images says so in its cells; a blank cell is no image.
    """
    from sklearn.metrics import confusion_matrix as count

    known = ~np.isnan(scores.y_true).any(axis=1)
    if not known.any():
        return words("No confusion matrix: no image has a known label.")
    n = len(scores.outputs)
    true, decided = scores.y_true[known].argmax(axis=1), scores.called[known].argmax(axis=1)
    names = [textwrap.fill(name, 14, break_long_words=False) for name in scores.outputs]
    with sheet(height=INCHES_DENSE, width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        _draw_counts(axes, count(true, decided, labels=range(n)), fontsize=max(6.5, 14 - 0.6 * n), cell=_short)
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
        axes.set_yticks(range(n), names, fontsize=9)
        axes.set(xlabel="decision", ylabel="true class")
        return png(figure)


def classification_report(report: pd.DataFrame) -> bytes:
    """The classification report as it is printed: a row for each class, a column for each measure.

    Args:
        report: numbers, indexed by class, or with the classes in the first column; what is null is left blank.
    """
    frame = report if isinstance(report.index, pd.RangeIndex) else report.rename_axis("class").reset_index()
    if frame.empty:
        return words("No classification report: no image has a known label.")
    cells = frame.astype(object).where(frame.notna(), "").map(as_text).to_numpy(str)
    heads = [textwrap.fill(spelled(column), 12) for column in frame.columns]
    with sheet(height=0.9 + 0.27 * len(cells), width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        axes.set_axis_off()
        widths = [3.0] + [1.0] * (len(heads) - 1)
        ends = np.cumsum(widths) / sum(widths)
        axes.set(xlim=(0, 1), ylim=(len(cells) - 0.4, -1.6))
        for row, texts in enumerate([heads, *cells], start=-1):
            axes.axhline(row + 0.5, color=GREY if row < 0 else LIGHT, linewidth=0.8)
            _write_row(axes, row, texts, ends, color=GREY if row < 0 else "black")
        return png(figure)


def _write_row(axes: "Axes", row: int, texts: Sequence[str], ends: NDArray[np.float64], *, color: str) -> None:
    """Write the first text from the left edge, and the others up to where their columns end."""
    for column, text in enumerate(texts):
        place, side = (0.0, "left") if column == 0 else (ends[column], "right")
        axes.text(place, row, text, ha=side, va="center", color=color, fontsize=9)


def _draw_counts(
    axes: "Axes", counts: NDArray[np.int64], *, fontsize: float, cell: Callable[[int, float], str]
) -> None:
    """A cell for each count [k, k], as dark as its share of the row; ``cell`` writes count and share."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.2)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = cell(int(count), share) if counts[row].any() else "no images"
        color = "white" if share > 0.7 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=fontsize)


def _exact(count: int, share: float) -> str:
    return f"{count}\n{100 * share:.1f} %"


def _short(count: int, share: float) -> str:
    """Nothing where there is nothing, so that what is there stands out among many cells."""
    return f"{count}\n{100 * share:.0f} %" if count else ""
