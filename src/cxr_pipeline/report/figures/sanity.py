"""The figure of the sanity checks: measured and expected values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, LIGHT, ORANGE, Axes
from cxr_pipeline.report.formatting import Document

TITLES = ("Untrained network", "Overfitting a few images", "Shuffled labels")


def sanity_figure(report: Document) -> bytes:
    """Draw the loss of the untrained network, overfitting of a few images, and shuffled labels from ``sanity.json``."""
    verdicts = {verdict["name"]: verdict for verdict in report["verdicts"]}
    checks = [verdicts[name] for name in ("chance", "overfitting", "shuffled_labels")]
    images = " on phantom images, without evidence about patients" if report["phantom"] else ""
    with style.sheet(height=4.6, width=12.0) as figure:
        figure.suptitle(f"Sanity checks of {report['task']}{images}", x=0.01, ha="left", fontsize=13)
        grid = figure.add_gridspec(2, 3, width_ratios=(0.8, 1.2, 1.2))
        chance, loss, auc, shuffled = map(figure.add_subplot, (grid[:, 0], grid[0, 1], grid[1, 1], grid[:, 2]))
        _draw_chance(chance, checks[0])
        _draw_overfitting(loss, auc, checks[1])
        _draw_shuffled(shuffled, checks[2])
        for axes, title, verdict in zip((chance, loss, shuffled), TITLES, checks, strict=True):
            state, color = ("passed", "black") if verdict["passed"] else ("FAILED", ORANGE)
            axes.set_title(f"{title}: {state}", loc="left", color=color, weight="bold")
        return style.png(figure)


def _draw_chance(axes: Axes, verdict: Document) -> None:
    measured, expected = verdict["measured"], verdict["expected"]
    axes.axhspan(expected["at_least"], expected["at_most"], color=LIGHT, label="expected")
    for place, (value, color) in enumerate(((expected["loss"], GREY), (measured["loss"], BLUE))):
        if value is not None:
            axes.bar_label(axes.bar(place, value, width=0.55, color=color), fmt="{:.3f}", padding=3)
    axes.set_xticks((0, 1), ("chance", "untrained"))
    axes.set(ylabel="cross-entropy", xlim=(-0.6, 1.6))
    axes.set_ylim(0, 1.15 * max(expected["at_most"], measured["loss"] or 0))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left")


def _draw_overfitting(upper: Axes, lower: Axes, verdict: Document) -> None:
    from matplotlib.ticker import NullFormatter

    expected, epochs = verdict["expected"], verdict["epochs"]
    for axes, column, label, bound in ((upper, "loss", "loss", "at most"), (lower, "auc", "AUC", "at least")):
        axes.axhline(expected[column], color=GREY, linestyle=":", label=f"{bound} {expected[column]:g}")
        _plot_epochs(axes, epochs, column)
        axes.set_ylabel(label)
    upper.legend(loc="upper right")
    lower.legend(loc="lower right")
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter("{x:g}")
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.tick_params(labelbottom=False)
    lower.set_ylim(top=1.03)
    lower.set_xlabel(f"epoch, {verdict['measured']['images']} training images")


def _draw_shuffled(axes: Axes, verdict: Document) -> None:
    """Draw the AUC of the validation images over the epochs with its range at chance; the last epoch counts."""
    measured, expected, epochs = verdict["measured"], verdict["expected"], verdict["epochs"]
    if expected["at_least"] is not None:
        axes.axhspan(expected["at_least"], expected["at_most"], color=LIGHT, label="chance")
    axes.axhline(0.5, color=GREY, linestyle=":")
    _plot_epochs(axes, epochs, "auc")
    if measured["auc"] is not None:
        color = BLUE if verdict["passed"] else ORANGE
        axes.plot(len(epochs), measured["auc"], "o", markersize=9, color=color, label=f"last: {measured['auc']:.3f}")
    axes.set(ylim=(-0.02, 1.02), ylabel="validation AUC", xlabel=f"epoch, {measured['images']} validation images")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")


def _plot_epochs(axes: Axes, epochs: Sequence[dict[str, Any]], column: str) -> None:
    values = np.array([row[column] for row in epochs], dtype=float)
    axes.plot(np.arange(1, len(values) + 1), values, "o-", markersize=3, color=BLUE)
    axes.set_xlim(0.4, len(values) + 0.6)
    style.integer_axis(axes)
