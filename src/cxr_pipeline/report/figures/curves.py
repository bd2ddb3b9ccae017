"""Curves of the scores of the test images, and training curves.

scikit-learn's display classes are not used because they import pyplot, which depends on a display and on the user's
settings.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.intervals import wilson
from cxr_pipeline.evaluation.metrics import equal_mass_bins, known_images
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, ORANGE, Axes
from cxr_pipeline.report.formatting import Document, measure, words

MOST_PANELS_WIDE = 4
ONE_CLASS_ONLY = "Nothing to draw: no class has both positive and negative test images."
PANEL_STYLE = {"lines.linewidth": 1.5, "lines.markersize": 5, "xtick.labelsize": 7, "ytick.labelsize": 7}
DOTTED: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.5}
RANGE, TICKS = (-0.03, 1.03), (0, 0.5, 1)
UNIT_SQUARE: dict[str, Any] = {"xlim": RANGE, "ylim": RANGE, "xticks": TICKS, "yticks": TICKS}


class Output(NamedTuple):
    """The m labelled images of one output: labels and predictions, bool [m], and probabilities [m], in [0, 1]."""

    name: str
    positive: NDArray[np.bool_]
    probability: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    threshold: float
    measures: Document


def draw_curve(name: str, scores: Scores, metrics: Document) -> bytes:
    """Draw a curve of each output that has both positive and negative test images; several outputs have small panels.

    Curves are ``roc``, ``precision_recall``, and ``reliability``: the observed share of positive images over the
    probability, in bins of equal mass, on axes that fit the class. ``metrics`` is the content of ``metrics.json``.
    """
    outputs = list(_outputs(scores, metrics))
    if not outputs:
        return style.message(ONE_CLASS_ONLY)
    draw, x_label, y_label = CURVES[name]
    if len(scores.outputs) == 1:
        with style.sheet(4.6, **{"lines.markersize": 7}) as figure:
            axes = figure.subplots()
            draw(axes, outputs[0])
            axes.set(xlabel=x_label, ylabel=y_label, aspect="equal")
            axes.legend(loc="best")
            return style.png(figure)
    n_wide = min(MOST_PANELS_WIDE, math.ceil(math.sqrt(len(outputs))))
    n_high = math.ceil(len(outputs) / n_wide)
    with style.sheet(0.4 + n_high * INCHES_DENSE / n_wide * 1.1, INCHES_DENSE, **PANEL_STYLE) as figure:
        for axes, output in zip(style.panels(figure, len(outputs), n_wide), outputs, strict=True):
            draw(axes, output)
            axes.set_title(f"{textwrap.fill(output.name, 24)}\nn = {output.positive.sum():,}", fontsize=8.5, loc="left")
            axes.set_box_aspect(1)
        figure.supxlabel(x_label, fontsize=10)
        figure.supylabel(y_label, fontsize=10)
        return style.png(figure)


def score_histogram(scores: Scores, metrics: Document, classes: Sequence[str]) -> bytes:
    """Draw histograms of the probabilities of two classes, the negative one given first."""
    from matplotlib.ticker import MaxNLocator

    positive, probability = known_images(scores.y_true[:, 0], scores.probability[:, 0])
    threshold = metrics["thresholds"][scores.outputs[0]]
    with style.sheet(height=4.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, name, members, color in ((upper, classes[1], positive, ORANGE), (lower, classes[0], ~positive, BLUE)):
            axes.hist(probability[members], bins=30, range=(0, 1), color=color)
            axes.set(xlim=(-0.02, 1.02), ylabel="images")
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3f}")
            axes.set_title(f"{name} (n = {members.sum()})", loc="left")
        upper.legend(loc="best")
        lower.set_xlabel(f"probability of {classes[1]}")
        return style.png(figure)


def training_curves(history: pd.DataFrame, *, selected: Sequence[int]) -> bytes:
    """Draw losses and validation AUC over the epochs (from 1), with the phases and the selected epochs.

    Each member of an ensemble has a line, and a selected epoch.
    """
    with style.sheet(height=5.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, column, fmt, color, label in (
            (upper, "loss", "o-", BLUE, "training"),
            (upper, "val_loss", "s--", ORANGE, "validation"),
            (lower, "val_auc", "s--", ORANGE, None),
        ):
            for member, epochs in history.groupby("member"):
                named = label if member == 1 else None
                axes.plot(epochs["epoch"], epochs[column], fmt, markersize=4, color=color, label=named)
        _shade_phases(history, upper, lower)
        marked = sorted(set(selected))
        for axes in (upper, lower):
            lines = [axes.axvline(epoch, color="black", linestyle=":", linewidth=1.5) for epoch in marked]
        lines[0].set_label(f"selected: epoch {', '.join(map(str, marked))}")
        upper.legend(loc="best")
        lower.legend(loc="best")
        upper.set(ylabel="loss")
        lower.set(ylabel="validation AUC", xlabel="epoch")
        lower.set_xlim(history["epoch"].min() - 0.6, history["epoch"].max() + 0.6)
        style.integer_axis(lower)
        return style.png(figure)


def reliability_bins(y_true: ArrayLike, probability: ArrayLike) -> pd.DataFrame:
    """Summarise the ten bins of equal mass that the expected calibration error is computed on.

    Labels [n] are 1, 0, or NaN (ignored). A row for each bin with images has their number ``n``, their mean
    ``probability``, the ``observed`` share of positive images, and ``low`` and ``high``, its 95 % interval (`wilson`).
    """
    positive, scores = known_images(y_true, probability)
    images = pd.DataFrame({"positive": positive, "probability": scores})
    bins = images.groupby(equal_mass_bins(scores)).agg(
        n=("positive", "size"),
        probability=("probability", "mean"),
        observed=("positive", "mean"),
    )
    limits = [wilson(observed, n, 0.95) for observed, n in zip(bins["observed"], bins["n"], strict=True)]
    return bins.assign(low=[low for low, _ in limits], high=[high for _, high in limits])


def _outputs(scores: Scores, metrics: Document) -> Iterator[Output]:
    """Yield the outputs with both positive and negative images."""
    for column, name in enumerate(scores.outputs):
        known = ~np.isnan(scores.y_true[:, column])
        positive, probability = known_images(scores.y_true[:, column], scores.probability[:, column])
        if positive.any() and not positive.all():
            threshold, measures = metrics["thresholds"][name], metrics["per_class"][name]
            yield Output(name, positive, probability, scores.predicted[known, column], threshold, measures)


def _roc(axes: Axes, output: Output) -> None:
    from sklearn.metrics import roc_curve

    false_positives, sensitivity, _ = roc_curve(output.positive, output.probability, drop_intermediate=False)
    axes.plot(false_positives, sensitivity, color=BLUE, label=_with_interval("AUC", output.measures["auc"]))
    axes.plot([0, 1], [0, 1], **DOTTED, label="chance")
    _mark_threshold(axes, output, output.predicted[~output.positive].mean(), output.predicted[output.positive].mean())
    axes.set(**UNIT_SQUARE)


def _precision_recall(axes: Axes, output: Output) -> None:
    from sklearn.metrics import precision_recall_curve

    precision, sensitivity, _ = precision_recall_curve(output.positive, output.probability)
    label = _with_interval("average precision", output.measures["average_precision"])
    axes.plot(sensitivity, precision, color=BLUE, drawstyle="steps-pre", label=label)
    axes.axhline(output.positive.mean(), **DOTTED, label="chance")
    # Without a positive prediction, precision is undefined.
    if output.predicted.any():
        recalled, correct = output.predicted[output.positive].mean(), output.positive[output.predicted].mean()
        _mark_threshold(axes, output, recalled, correct)
    axes.set(**UNIT_SQUARE)


def _with_interval(name: str, measured: Document) -> str:
    return f"{name} {measure(measured)}".replace(" (", "\n(")


def _mark_threshold(axes: Axes, output: Output, x: float, y: float) -> None:
    axes.plot(x, y, "o", color=ORANGE, zorder=3, label=f"threshold {output.threshold:.3f}")


def _reliability(axes: Axes, output: Output) -> None:
    bins = reliability_bins(output.positive, output.probability)
    sizes = " to ".join(str(size) for size in sorted({bins["n"].min(), bins["n"].max()}))
    axes.plot([0, 1], [0, 1], **DOTTED, label="perfect calibration")
    axes.vlines(bins["probability"], bins["low"], bins["high"], color=BLUE, alpha=0.7, linewidth=1.2)
    label = f"test images, {len(bins)} bins of {sizes}"
    axes.plot(bins["probability"], bins["observed"], "o-", color=BLUE, label=label)
    end = 1.05 * max(bins["probability"].max(), bins["observed"].max())
    axes.set(xlim=(-0.03 * end, end), ylim=(-0.03 * end, end))


def _shade_phases(history: pd.DataFrame, upper: Axes, lower: Axes) -> None:
    for number, (phase, epochs) in enumerate(history.groupby("phase", sort=False)["epoch"]):
        start = epochs.min() - 0.5
        for axes in (upper, lower):
            axes.axvspan(start, epochs.max() + 0.5, color=GREY, alpha=0.06 + 0.1 * (number % 2), linewidth=0)
        upper.annotate(
            words(phase), (start, 1), xycoords=("data", "axes fraction"), xytext=(2, 4),
            textcoords="offset points", fontsize=10, color=GREY,
        )  # fmt: skip


# How to draw a curve, and the labels of its axes.
CURVES: dict[str, tuple[Callable[[Axes, Output], None], str, str]] = {
    "roc": (_roc, "1 - specificity", "sensitivity"),
    "precision_recall": (_precision_recall, "sensitivity", "precision"),
    "reliability": (_reliability, "probability", "share of positive images"),
}
