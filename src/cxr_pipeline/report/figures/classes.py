"""Several classes beside each other: their AUC, and a small curve for each.

In all of them a class [n] of the scores is 1.0, 0.0 or NaN (unknown, left out), and the orange point is what the
decisions reach.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.evaluation.metrics import known_images
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.curves import Metric
from cxr_pipeline.report.figures.reliability import reliability_bins
from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, ORANGE, png, sheet, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS_WIDE = 4
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def class_auc(metrics: Mapping[str, Any]) -> bytes:
    """AUC of each class with its interval, the best first, below their mean.

    Args:
        metrics: the content of ``metrics.json``, of which ``metrics``, ``per_class`` and ``support`` are read.
    """
    areas = {name: measures["auc"] for name, measures in metrics["per_class"].items()}
    defined = sorted((name for name in areas if _is_defined(areas[name])), key=lambda name: -areas[name]["value"])
    order = [*defined, *(name for name in areas if name not in defined)]
    support = metrics.get("support", {})
    labels = [f"{name} (n = {support[name]['n_positive']:,})" if name in support else name for name in order]
    rows = [metrics["metrics"]["auc"], *(areas[name] for name in order)]
    with sheet(height=1.1 + 0.32 * len(rows), width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        for row, area in enumerate(rows):
            _draw_interval(axes, row, area, color=ORANGE if row == 0 else BLUE)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.5)
        axes.set_yticks(range(len(rows)), [f"mean of {len(areas)}", *labels])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="AUC; the dotted line is guessing")
        axes.set_xlim(right=1.01)
        axes.grid(visible=False, axis="y")
        return png(figure)


def class_roc(scores: Scores) -> bytes:
    """Sensitivity over 1 - specificity, for each class."""
    return _panels(scores, _roc, x_label="1 - specificity", y_label="sensitivity")


def class_precision_recall(scores: Scores) -> bytes:
    """Precision over sensitivity, for each class; the dotted line is the share of its images, which guessing reaches."""
    return _panels(scores, _precision_recall, x_label="sensitivity", y_label="precision")


def class_reliability(scores: Scores) -> bytes:
    """Share of a class's images over the probability given, in bins of equal mass, on axes that fit the class."""
    return _panels(scores, _reliability, x_label="probability given", y_label="share of images of the class")


def _is_defined(metric: Metric) -> bool:
    return metric["value"] is not None and not np.isnan(metric["value"])


def _draw_interval(axes: "Axes", row: int, metric: Metric, *, color: str) -> None:
    value, low, high = np.array([metric[key] for key in ("value", "low", "high")], dtype=float)
    axes.plot([low, high], [row, row], color=color)
    axes.plot(value, row, "o", color=color, markersize=6)
    bounds = "" if np.isnan([low, high]).any() else f" ({low:.2f} to {high:.2f})"
    text = f"{value:.2f}{bounds}" if _is_defined(metric) else "not defined"
    axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)


def _panels(
    scores: Scores, draw: Callable[["Axes", Bools, Floats, Bools], None], *, x_label: str, y_label: str
) -> bytes:
    """A small square panel for each class that has both images of it and others."""
    images = list(_classes_with_both(scores))
    if not images:
        return words("Nothing to draw: no class has test images of it and test images of another.")
    n_wide = min(MOST_PANELS_WIDE, int(np.ceil(np.sqrt(len(images)))))
    n_high = -(-len(images) // n_wide)
    with sheet(height=0.4 + n_high * INCHES_DENSE / n_wide * 1.1, width=INCHES_DENSE) as figure:
        panels = figure.subplots(n_high, n_wide, squeeze=False)
        for axes in panels.flat[len(images) :]:
            axes.set_axis_off()
        for axes, (name, positive, probability, called) in zip(panels.flat, images, strict=False):
            draw(axes, positive, probability, called)
            axes.set_title(f"{textwrap.fill(name, 24)}\nn = {positive.sum():,}", fontsize=8.5, loc="left")
            axes.set_box_aspect(1)
            axes.tick_params(labelsize=7)
        figure.supxlabel(x_label, fontsize=10)
        figure.supylabel(y_label, fontsize=10)
        return png(figure)


def _classes_with_both(scores: Scores) -> Iterator[tuple[str, Bools, Floats, Bools]]:
    """Name, labels, probabilities and decisions [m] of each class that has both images of it and others."""
    for column, name in enumerate(scores.outputs):
        y_true = scores.y_true[:, column]
        positive, probability = known_images(y_true, scores.probability[:, column])
        if positive.any() and not positive.all():
            yield name, positive, probability, scores.called[~np.isnan(y_true), column]


def _roc(axes: "Axes", positive: Bools, probability: Floats, called: Bools) -> None:
    from sklearn.metrics import roc_curve

    false_alarms, found, _ = roc_curve(positive, probability, drop_intermediate=False)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    axes.plot(false_alarms, found, color=BLUE, linewidth=1.5)
    axes.plot(called[~positive].mean(), called[positive].mean(), "o", color=ORANGE, markersize=5)
    _unit_square(axes)


def _precision_recall(axes: "Axes", positive: Bools, probability: Floats, called: Bools) -> None:
    from sklearn.metrics import precision_recall_curve

    precision, found, _ = precision_recall_curve(positive, probability)
    axes.axhline(positive.mean(), color=GREY, linestyle=":", linewidth=1)
    axes.plot(found, precision, color=BLUE, linewidth=1.5, drawstyle="steps-pre")
    if called.any():
        axes.plot(called[positive].mean(), positive[called].mean(), "o", color=ORANGE, markersize=5)
    _unit_square(axes)


def _unit_square(axes: "Axes") -> None:
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _reliability(axes: "Axes", positive: Bools, probability: Floats, called: Bools) -> None:
    bins = reliability_bins(positive, probability)
    end = 1.05 * max(bins["probability"].max(), bins["observed"].max())
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    axes.vlines(bins["probability"], bins["low"], bins["high"], color=GREY, alpha=0.4, linewidth=1.5)
    axes.plot(bins["probability"], bins["observed"], "o-", color=BLUE, markersize=3, linewidth=1)
    axes.set(xlim=(-0.03 * end, end), ylim=(-0.03 * end, end))
