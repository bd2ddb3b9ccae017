"""Figures of a hyperparameter search: its history, the importance of parameters, and the value of each setting."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.report.figures.style import (
    BLUE,
    GREY,
    INCHES_DENSE,
    LIGHT,
    ORANGE,
    integer_axis,
    message,
    panels,
    png,
    sheet,
)
from cxr_pipeline.report.formatting import Document, as_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_WIDE = 3


def draw_tuning(trials: pd.DataFrame, study: Document) -> dict[str, bytes]:
    """Draw the trials (``trial_table``) of a study (``tuning_study.json``), PNG bytes by name."""
    label, minimize = monitor_in_words(study["monitor"]), study["direction"] == "minimize"
    return {
        "tuning_history": history(trials, label=label, minimize=minimize),
        "tuning_importance": importances(study["importance"]),
        "tuning_slices": slices(trials, study["space"], label=label, minimize=minimize),
    }


def monitor_in_words(monitor: str) -> str:
    """Return ``"validation AUC"`` for ``val_auc``."""
    name = monitor.removeprefix("val_").replace("_", " ")
    return f"validation {'AUC' if name == 'auc' else name}"


def history(trials: pd.DataFrame, *, label: str, minimize: bool) -> bytes:
    """Draw the value of each trial in their order, and the best so far."""
    complete, pruned = (trials[trials["state"] == state] for state in ("complete", "pruned"))
    if complete.empty:
        return message("No history: no trial was completed.")
    best = complete["value"].cummin() if minimize else complete["value"].cummax()
    last = trials["number"].max()
    with sheet(height=4.4) as figure:
        axes = figure.subplots()
        axes.step([*complete["number"], last], [*best, best.iloc[-1]], where="post", color=ORANGE, label="best so far")
        for name, rows, color, fill in (("complete", complete, BLUE, "full"), ("pruned", pruned, GREY, "none")):
            if len(rows):
                text = f"{name} ({len(rows)})"
                axes.plot(rows["number"], rows["value"], "o", color=color, markersize=5, fillstyle=fill, label=text)
        for number, failed in enumerate(trials.loc[trials["state"] == "failed", "number"]):
            axes.axvline(failed, color=LIGHT, linewidth=4, zorder=0, label=None if number else "failed")
        axes.set(xlabel="trial", ylabel=label)
        integer_axis(axes)
        figure.legend(loc="outside upper center", ncols=2)
        return png(figure)


def importances(shares: Mapping[str, float]) -> bytes:
    """Draw the share of the variance that each parameter explains, as bars."""
    if not shares:
        return message("No importance: it needs two complete trials with different parameters and values.")
    names = list(shares)[::-1]
    with sheet(height=1.2 + 0.38 * len(names)) as figure:
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=10)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of the variance", xlim=(0, 1.1 * max(shares.values()) or 1))
        return png(figure)


def slices(trials: pd.DataFrame, space: Document, *, label: str, minimize: bool) -> bytes:
    """Draw the value of each complete trial over each parameter, later trials darker, the best one circled."""
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return message("No values: no trial was completed.")
    best = int(complete["value"].argmin() if minimize else complete["value"].argmax())
    n_columns = min(PANELS_WIDE, len(space))
    n_rows = -(-len(space) // n_columns)
    with sheet(height=0.5 + 2.4 * n_rows, width=INCHES_DENSE) as figure:
        grid = panels(figure, len(space), n_columns, sharey=True)
        for axes, (name, axis) in zip(grid, space.items(), strict=True):
            places = _places(axes, complete[name], axis)
            axes.scatter(places, complete["value"], c=complete["number"], cmap="Blues", vmin=-0.5 * len(trials),
                         s=28, edgecolors=GREY, linewidths=0.5)  # fmt: skip
            axes.plot(places.iloc[best], complete["value"].iloc[best], "o", color=ORANGE, ms=11, fillstyle="none")
            axes.set_xlabel(name, fontsize=9)
        figure.supylabel(label, fontsize=11)
        return png(figure)


def as_searched(value: Any, axis: Document) -> Any:
    """Return the value of a trial as its search range has it, although a CSV file may have made 4 of 4.0 or of "4"."""
    if "choices" in axis:
        return min(axis["choices"], key=lambda choice: (as_yaml(choice) != as_yaml(value), _distance(choice, value)))
    return int(value) if isinstance(axis["low"], int) else value


def _places(axes: "Axes", values: "pd.Series[Any]", axis: Document) -> "pd.Series[Any]":
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.margins(x=0.08)
    axes.tick_params(labelsize=9)
    if "choices" in axis:
        names = [as_yaml(choice) for choice in axis["choices"]]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=25, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        return values.map(lambda value: names.index(as_yaml(as_searched(value, axis))))
    if axis.get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return values.astype(float)


def _distance(choice: Any, value: Any) -> float:
    try:
        return abs(float(choice) - float(value))
    except (TypeError, ValueError):
        return math.inf
