"""Curves of one class over the thresholds, and of a training over its epochs.

In all of them ``y_true`` [n] is 1.0, 0.0 or NaN (unknown, left out), ``probability`` [n] is that of the positive
class in [0, 1], an image is called positive when ``probability >= threshold``, ``classes`` names the negative and then
the positive class, and a metric is a dict of ``value``, ``low`` and ``high``, None or NaN where not defined.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.report.figures.style import BLUE, GREY, ORANGE, png, sheet, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metric = Mapping[str, float | None]


def roc(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, auc: Metric) -> bytes:
    """Sensitivity over 1 - specificity, with the point where the threshold lies."""
    from sklearn.metrics import roc_curve

    positive, scores = known_images(y_true, probability)
    if positive.all() or not positive.any():
        return words("No ROC curve: it needs images of both classes.")
    false_alarms, found, _ = roc_curve(positive, scores, drop_intermediate=False)
    called = scores >= threshold
    with sheet(height=4.6) as figure:
        axes = figure.subplots()
        axes.plot(false_alarms, found, color=BLUE, label=with_interval("AUC", auc))
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.5, label="guessing")
        _mark(axes, called[~positive].mean(), called[positive].mean(), threshold)
        _fill_unit_square(axes, x_label="1 - specificity", y_label="sensitivity", legend="lower right")
        return png(figure)


def precision_recall(
    y_true: ArrayLike, probability: ArrayLike, threshold: float, *, average_precision: Metric
) -> bytes:
    """Precision over sensitivity, with the share of positive images, which is what guessing reaches."""
    from sklearn.metrics import precision_recall_curve

    positive, scores = known_images(y_true, probability)
    if positive.all() or not positive.any():
        return words("No precision-recall curve: it needs images of both classes.")
    precision, found, _ = precision_recall_curve(positive, scores)
    called = scores >= threshold
    with sheet(height=4.6) as figure:
        axes = figure.subplots()
        label = with_interval("average precision", average_precision)
        axes.plot(found, precision, color=BLUE, drawstyle="steps-pre", label=label)
        axes.axhline(positive.mean(), color=GREY, linestyle=":", linewidth=1.5, label="guessing")
        if called.any():
            _mark(axes, called[positive].mean(), positive[called].mean(), threshold)
        _fill_unit_square(axes, x_label="sensitivity", y_label="precision", legend="lower left")
        return png(figure)


def score_histogram(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, classes: Sequence[str]) -> bytes:
    """How many images of each class got which probability, with the threshold across both."""
    positive, scores = known_images(y_true, probability)
    negative_class, positive_class = classes
    with sheet(height=4.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, name, members, color in (
            (upper, positive_class, positive, ORANGE),
            (lower, negative_class, ~positive, BLUE),
        ):
            count_images(axes, scores[members], color=color)
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3f}")
            axes.set_title(f"{name} (n = {members.sum()})", loc="left")
        upper.legend(loc="best")
        lower.set_xlabel(f"probability of {positive_class}")
        return png(figure)


def training_curves(history: pd.DataFrame, *, kept: int) -> bytes:
    """Losses and validation AUC over the epochs, with the phases and the epoch that was kept.

    Args:
        history: a row per epoch: ``phase``, ``epoch`` (from 1 on), ``loss``, ``val_loss``, ``val_auc``.
        kept: the epoch whose weights were kept.
    """
    from matplotlib.ticker import MaxNLocator

    with sheet(height=5.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, column, fmt, color, label in (
            (upper, "loss", "o-", BLUE, "training"),
            (upper, "val_loss", "s--", ORANGE, "validation"),
            (lower, "val_auc", "s--", ORANGE, None),
        ):
            axes.plot(history["epoch"], history[column], fmt, markersize=4, color=color, label=label)
        _shade_phases(history, upper, lower)
        upper.axvline(kept, color="black", linestyle=":", linewidth=1.5)
        lower.axvline(kept, color="black", linestyle=":", linewidth=1.5, label=f"kept: epoch {kept}")
        lower.legend(loc="best")
        upper.legend(loc="best")
        upper.set(ylabel="loss")
        lower.set(ylabel="validation AUC", xlabel="epoch")
        lower.set_xlim(history["epoch"].min() - 0.6, history["epoch"].max() + 0.6)
        lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return png(figure)


def with_interval(name: str, metric: Metric) -> str:
    """``"AUC 0.889"``, and the interval on a second line where there is one."""
    value, low, high = np.array([metric[key] for key in ("value", "low", "high")], dtype=float)
    bounds = "" if np.isnan([low, high]).any() else f"\n({low:.3f} to {high:.3f})"
    return f"{name} {value:.3f}{bounds}"


def _mark(axes: "Axes", x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, "o", color=ORANGE, markersize=9, zorder=3, label=f"threshold {threshold:.3f}")


def _fill_unit_square(axes: "Axes", *, x_label: str, y_label: str, legend: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.legend(loc=legend)


def count_images(axes: "Axes", scores: NDArray[np.float64], *, color: str) -> None:
    """Count images by their probabilities [n], in thirty bars."""
    from matplotlib.ticker import MaxNLocator

    axes.hist(scores, bins=30, range=(0, 1), color=color)
    axes.set(xlim=(-0.02, 1.02), ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _shade_phases(history: pd.DataFrame, upper: "Axes", lower: "Axes") -> None:
    for number, (phase, rows) in enumerate(history.groupby("phase", sort=False)):
        start = rows["epoch"].min() - 0.5
        for axes in (upper, lower):
            axes.axvspan(start, rows["epoch"].max() + 0.5, color=GREY, alpha=0.06 + 0.1 * (number % 2), linewidth=0)
        upper.annotate(
            str(phase).replace("_", " "), (start, 1), xycoords=("data", "axes fraction"), xytext=(2, 4),
            textcoords="offset points", fontsize=10, color=GREY,
        )  # fmt: skip
