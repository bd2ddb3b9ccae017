"""The picture of the sanity checks: what each measured, and what was expected."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_pipeline.report.figures.style import BLUE, GREY, LIGHT, ORANGE, png, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Mapping[str, Any]


def sanity_figure(report: Mapping[str, Any]) -> bytes:
    """Three panels: the loss of the untrained network, over-fitting on purpose, shuffled labels.

    Args:
        report: the content of ``sanity.json``.

    Returns:
        PNG.
    """
    verdicts = {verdict["name"]: verdict for verdict in report["verdicts"]}
    images = " on phantom images, which are drawn and say nothing about patients" if report["phantom"] else ""
    with sheet(height=4.6, width=12.0) as figure:
        figure.suptitle(f"Sanity checks of {report['task']}{images}", x=0.01, ha="left", fontsize=13)
        grid = figure.add_gridspec(2, 3, width_ratios=(0.8, 1.2, 1.2))
        chance, loss, auc, shuffled = map(figure.add_subplot, (grid[:, 0], grid[0, 1], grid[1, 1], grid[:, 2]))
        _draw_chance(chance, verdicts["chance"])
        _draw_overfitting(loss, auc, verdicts["overfitting"])
        _draw_shuffled(shuffled, verdicts["shuffled_labels"])
        for axes, name, title in (
            (chance, "chance", "Untrained"),
            (loss, "overfitting", "Over-fitted on purpose"),
            (shuffled, "shuffled_labels", "Shuffled labels"),
        ):
            passed = verdicts[name]["passed"]
            color = "black" if passed else ORANGE
            axes.set_title(f"{title}: {'passed' if passed else 'FAILED'}", loc="left", color=color, weight="bold")
        return png(figure)


def _draw_chance(axes: "Axes", verdict: Verdict) -> None:
    """The loss of the untrained network beside that of chance, and where it was expected."""
    measured, expected = verdict["measured"], verdict["expected"]
    axes.axhspan(expected["at_least"], expected["at_most"], color=LIGHT, label="expected")
    for place, (value, color) in enumerate(((expected["loss"], GREY), (measured["loss"], BLUE))):
        if value is not None:
            axes.bar(place, value, width=0.55, color=color)
            axes.annotate(f"{value:.3f}", (place, value), xytext=(0, 3), textcoords="offset points", ha="center")
    axes.set_xticks((0, 1), ("chance", "untrained"))
    axes.set(ylabel="cross-entropy", xlim=(-0.6, 1.6))
    axes.set_ylim(0, 1.15 * max(expected["at_most"], measured["loss"] or 0))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left")


def _draw_overfitting(upper: "Axes", lower: "Axes", verdict: Verdict) -> None:
    """Loss, on a logarithmic scale, and AUC of the few images, epoch by epoch."""
    from matplotlib.ticker import NullFormatter

    expected, epochs = verdict["expected"], verdict["epochs"]
    for axes, column, bound in ((upper, "loss", "at most"), (lower, "auc", "at least")):
        axes.axhline(expected[column], color=GREY, linestyle=":", label=f"{bound} {expected[column]:g}")
        axes.plot(*_curve(epochs, column), "o-", markersize=3, color=BLUE)
        axes.set_ylabel({"loss": "loss", "auc": "AUC"}[column])
        axes.legend(loc={"loss": "upper right", "auc": "lower right"}[column])
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter("{x:g}")
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.tick_params(labelbottom=False)
    lower.set_ylim(top=1.03)
    lower.set_xlabel(f"epoch, {verdict['measured']['images']} training images")
    for axes in (upper, lower):
        _number_epochs(axes, len(epochs))


def _draw_shuffled(axes: "Axes", verdict: Verdict) -> None:
    """AUC of the validation images, epoch by epoch, with the band of chance; the last epoch counts."""
    measured, expected, epochs = verdict["measured"], verdict["expected"], verdict["epochs"]
    if expected["at_least"] is not None:
        axes.axhspan(expected["at_least"], expected["at_most"], color=LIGHT, label="chance")
    axes.axhline(0.5, color=GREY, linestyle=":")
    axes.plot(*_curve(epochs, "auc"), "o-", markersize=3, color=BLUE)
    if measured["auc"] is not None:
        color = BLUE if verdict["passed"] else ORANGE
        axes.plot(len(epochs), measured["auc"], "o", markersize=9, color=color, label=f"last: {measured['auc']:.3f}")
    axes.set(ylim=(-0.02, 1.02), ylabel="validation AUC", xlabel=f"epoch, {measured['images']} validation images")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    _number_epochs(axes, len(epochs))


def _curve(epochs: Sequence[Mapping[str, float | None]], column: str) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([row[column] for row in epochs], dtype=float)
    return np.arange(1, len(values) + 1), values


def _number_epochs(axes: "Axes", n: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.4, n + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
