"""Figures of estimates with their intervals, one below the other."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, LIGHT, ORANGE, Axes
from cxr_pipeline.report.formatting import UNDEFINED, Document, measure, shorten, value_of
from cxr_pipeline.report.page import records

INCHES_ABLATION = 9.0
# Metrics of an ablation with the relative widths of their panels; the intervals are written next to the first.
PANELS = {"auc": 1.9, "accuracy": 1, "sensitivity": 1, "specificity": 1}
LONGEST_CELL, LONGEST_MODEL, MOST_MODELS = 56, 44, 40


class Estimate(NamedTuple):
    """A metric with ``value``, ``low`` and ``high``, each a number or None; or no metric."""

    label: str
    measured: Document | None
    color: str = BLUE
    hollow: bool = False
    missing: str = UNDEFINED


def draw_class_auc(metrics: Document) -> bytes:
    """Draw the AUC of each class in ``metrics.json``, the highest first, below their mean."""
    per_class, support = metrics["per_class"], metrics["support"]
    ordered = sorted(per_class, key=lambda name: -(value_of(per_class[name], "auc") or -np.inf))
    rows = [Estimate(f"mean of {len(per_class)}", metrics["metrics"]["auc"], ORANGE)]
    rows += [Estimate(f"{name} (n = {support[name]['n_positive']:,})", per_class[name]["auc"]) for name in ordered]
    with style.sheet(height=1.1 + 0.32 * len(rows), width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        _draw_auc(axes, rows)
        _write_numbers(axes, rows)
        return style.png(figure)


def draw_models(rows: Sequence[Document]) -> bytes:
    """Draw the AUC of the first models of a leaderboard group over the interval of the best."""
    drawn, best = rows[:MOST_MODELS], rows[0]["auc"]
    names = [shorten(row["name"], LONGEST_MODEL) for row in drawn]
    with style.sheet(height=1.0 + 0.34 * len(drawn), width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        if best["low"] is not None:
            axes.axvspan(best["low"], best["high"], color=LIGHT)
        _draw_auc(axes, [Estimate(names[n], row["auc"], hollow=row["kind"] == "cell") for n, row in enumerate(drawn)])
        axes.tick_params(axis="y", labelsize=9)
        return style.png(figure)


def draw_cells(table: pd.DataFrame) -> bytes:
    """Draw AUC, accuracy, sensitivity and specificity of the cells of an ablation, with the baseline dashed."""
    rows = records(table)
    with style.sheet(height=1.1 + 0.34 * len(rows), width=INCHES_ABLATION) as figure:
        panels = figure.subplots(1, len(PANELS), sharey=True, width_ratios=list(PANELS.values()))
        for axes, name in zip(panels, PANELS, strict=True):
            estimates = [_cell(row, name) for row in rows]
            for row in rows:
                if row["is_baseline"] and row[name] is not None:
                    axes.axvline(row[name]["value"], color=GREY, linestyle="--", linewidth=1)
            _draw_estimates(axes, estimates)
            axes.set_title("AUC" if name == "auc" else name, fontsize=10, loc="left")
            axes.tick_params(labelsize=9)
            axes.tick_params(axis="y", length=0)
            if name == "auc":
                axes.set_xlim(right=1.01)
                _write_numbers(axes, estimates)
            else:
                axes.set(xlim=(-0.09, 1.09), xticks=(0, 0.5, 1), xticklabels=("0", "0.5", "1"))
        return style.png(figure)


def _cell(row: Document, name: str) -> Estimate:
    baseline = row["is_baseline"] and row["cell"] != "baseline"
    states = {"baseline": baseline, "collapsed": row["collapsed"], "failed": row["error"]}
    state = "".join(f" ({name})" for name, holds in states.items() if holds)
    label = textwrap.fill(shorten(" ".join(str(row["cell"]).split()), LONGEST_CELL) + state, 34)
    color, missing = ORANGE if row["collapsed"] else BLUE, "failed" if row["error"] else UNDEFINED
    return Estimate(label, row[name], color, bool(row["collapsed"]), missing)


def _draw_auc(axes: Axes, estimates: Sequence[Estimate]) -> None:
    _draw_estimates(axes, estimates)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.5)
    axes.set_xlabel("AUC; the dotted line is chance")
    axes.set_xlim(right=1.01)


def _draw_estimates(axes: Axes, estimates: Sequence[Estimate]) -> None:
    """Draw a row for each estimate, the first on top; an undefined number is NaN, which is not drawn."""
    for place, row in enumerate(estimates):
        if row.measured is None:
            continue
        value, low, high = np.array([row.measured[key] for key in ("value", "low", "high")], dtype=float)
        axes.plot([low, high], [place, place], color=row.color)
        face = "white" if row.hollow else row.color
        axes.plot(value, place, "o", color=row.color, markersize=6, markerfacecolor=face)
    axes.set_yticks(range(len(estimates)), [row.label for row in estimates])
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _write_numbers(axes: Axes, estimates: Sequence[Estimate]) -> None:
    for place, row in enumerate(estimates):
        numbers = measure(row.measured, digits=2) or row.missing
        axes.text(1.02, place, numbers, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
