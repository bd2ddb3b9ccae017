"""The pictures of a study: how it went, which parameters mattered, and what each value was worth."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, LIGHT, ORANGE, png, sheet, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_A_ROW = 3


def draw_tuning(
    trials: pd.DataFrame, space: Mapping[str, Any], importance: Mapping[str, float], *, monitor: str, minimize: bool
) -> dict[str, bytes]:
    """Draw a study.

    Args:
        trials: as `trial_table` makes it.
        space: dotted parameter to its axis.
        importance: share of each parameter, the largest first; may be empty.
        monitor: name of the value.
        minimize: small values are good.

    Returns:
        PNG bytes by name: ``tuning_history``, ``tuning_importance`` and ``tuning_slices``.
    """
    label = monitor_in_words(monitor)
    return {
        "tuning_history": history(trials, label=label, minimize=minimize),
        "tuning_importance": importances(importance),
        "tuning_slices": slices(trials, space, label=label, minimize=minimize),
    }


def monitor_in_words(monitor: str) -> str:
    """``"validation AUC"`` for ``val_auc``."""
    name = monitor.removeprefix("val_").replace("_", " ")
    return f"validation {'AUC' if name == 'auc' else name}"


def history(trials: pd.DataFrame, *, label: str, minimize: bool) -> bytes:
    """The value of each trial in the order in which they were asked, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    whole, pruned = (trials[trials["state"] == state] for state in ("complete", "pruned"))
    if whole.empty:
        return words("No history: no trial came to its end.")
    best = whole["value"].cummin() if minimize else whole["value"].cummax()
    last = trials["number"].max()
    with sheet(height=4.4) as figure:
        axes = figure.subplots()
        axes.step([*whole["number"], last], [*best, best.iloc[-1]], where="post", color=ORANGE, label="best so far")
        axes.plot(whole["number"], whole["value"], "o", color=BLUE, markersize=5, label=f"complete ({len(whole)})")
        if len(pruned):
            axes.plot(
                pruned["number"], pruned["value"], "o", color=GREY, markersize=5, fillstyle="none",
                label=f"pruned ({len(pruned)})",
            )  # fmt: skip
        for number, failed in enumerate(trials.loc[trials["state"] == "failed", "number"]):
            axes.axvline(failed, color=LIGHT, linewidth=4, zorder=0, label=None if number else "failed")
        axes.set(xlabel="trial", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(loc="outside upper center", ncols=2)
        return png(figure)


def importances(shares: Mapping[str, float]) -> bytes:
    """How much of the value's variance each parameter explains, as bars."""
    if not shares:
        return words("No importance: it needs two complete trials that differ in a parameter and in their value.")
    names = list(shares)[::-1]
    with sheet(height=1.2 + 0.38 * len(names)) as figure:
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        axes.bar_label(bars, labels=[f"{shares[name]:.2f}" for name in names], padding=3, fontsize=10)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of the variance", xlim=(0, 1.1 * max(shares.values()) or 1))
        return png(figure)


def slices(trials: pd.DataFrame, space: Mapping[str, Any], *, label: str, minimize: bool) -> bytes:
    """The value of each complete trial over each parameter, later trials darker, the best ringed."""
    whole = trials[trials["state"] == "complete"]
    if whole.empty:
        return words("No values to draw: no trial came to its end.")
    best = int(whole["value"].argmin() if minimize else whole["value"].argmax())
    n_columns = min(PANELS_A_ROW, len(space))
    n_rows = -(-len(space) // n_columns)
    with sheet(height=0.5 + 2.4 * n_rows, width=INCHES_DENSE) as figure:
        panels = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False).flat
        for axes, (name, axis) in zip(panels, space.items(), strict=False):
            places = _places(axes, whole[name], axis)
            axes.scatter(places, whole["value"], c=whole["number"], cmap="Blues", vmin=-0.5 * len(trials),
                         s=28, edgecolors=GREY, linewidths=0.5)  # fmt: skip
            axes.plot(places.iloc[best], whole["value"].iloc[best], "o", color=ORANGE, markersize=11, fillstyle="none")
            axes.set_xlabel(name, fontsize=9)
        for axes in list(figure.axes)[len(space) :]:
            axes.remove()
        figure.supylabel(label, fontsize=11)
        return png(figure)


def _places(axes: "Axes", values: "pd.Series[Any]", axis: Mapping[str, Any]) -> "pd.Series[Any]":
    """Where the values are on the x axis, which is made to fit."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.margins(x=0.08)
    axes.tick_params(labelsize=9)
    if "choices" in axis:
        names = [shown(choice) for choice in axis["choices"]]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=25, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        return values.map(lambda value: names.index(shown(as_searched(value, axis))))
    if axis.get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return values.astype(float)


def as_searched(value: Any, axis: Mapping[str, Any]) -> Any:
    """The value that a trial was given, as its axis has it, for one of a table that was read from a file.

    There 4 is 4.0 in a column with a null or a gap, and a text that looks like a number is one.
    """
    if "choices" in axis:
        return min(axis["choices"], key=lambda choice: (shown(choice) != shown(value), _distance(choice, value)))
    return int(value) if isinstance(axis["low"], int) else value


def _distance(choice: Any, value: Any) -> float:
    try:
        return abs(float(choice) - float(value))
    except (TypeError, ValueError):
        return math.inf


def shown(choice: object) -> str:
    """A choice as it is typed: ``null``, ``true``, ``cross_entropy``; a table read from a file has NaN for null."""
    if choice is None or choice != choice:
        return "null"
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
