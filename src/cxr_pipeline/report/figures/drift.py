"""Figures of a drift check; ``report`` is the content of ``drift_report.json``."""

import textwrap
from typing import TYPE_CHECKING

from cxr_pipeline.report.figures.style import BLUE, GREY, LIGHT, ORANGE, panels, png, sheet
from cxr_pipeline.report.formatting import Document, humanize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS, MOST_PANELS, PANELS_WIDE = 40, 16, 4
INCHES_DRIFT = 9.0
LARGEST_EFFECT = 6.0


def draw_effects(report: Document) -> bytes:
    """Draw the effect of each test, relative to the limit at which it counts as drift.

    Filled points are significant after correction, the line at 1 is the limit for a warning, the tick that for a
    refusal. Of more than 40 tests those with the largest effects are drawn.
    """
    tests = [(_relative(test["effect"], report, family), family, test) for family, test in _tests(report)]
    largest = sorted(effect for effect, *_ in tests)[-MOST_ROWS:]
    kept = [each for each in tests if each[0] >= largest[0]][:MOST_ROWS]
    with sheet(height=1.1 + 0.26 * max(len(kept), 2), width=INCHES_DRIFT) as figure:
        axes = figure.subplots()
        axes.axvspan(0, 1, color=LIGHT, alpha=0.6)
        axes.axvline(1, color=GREY, linewidth=1)
        for place, (relative, family, test) in enumerate(kept):
            effect, color = min(relative, LARGEST_EFFECT), _color(test)
            face = color if test["p_holm"] < report["alpha"] else "white"
            axes.plot([0, effect], [place, place], color=color, linewidth=1)
            axes.plot(effect, place, "o", color=color, markersize=6, markerfacecolor=face)
            if report["limits"][family]["refuse"] is not None:
                refuse = min(_relative(report["limits"][family]["refuse"], report, family), 1.04 * LARGEST_EFFECT)
                axes.plot([refuse, refuse], [place - 0.3, place + 0.3], color=GREY, linewidth=1.5)
        labels = [textwrap.shorten(f"{family}: {humanize(test['name'])}", 60) for _, family, test in kept]
        axes.set_yticks(range(len(kept)), labels, fontsize=9)
        axes.set(xlim=(0, 1.05 * LARGEST_EFFECT), ylim=(max(len(kept), 1) - 0.5, -0.5))
        axes.set_xlabel("effect, relative to the limit for a warning")
        axes.grid(visible=False, axis="y")
        return png(figure)


def draw_distributions(report: Document) -> bytes | None:
    """Draw up to 16 distributions of reference and new images, drifted ones first; None if no test has a histogram."""
    drawn = [(family, test) for family, test in _tests(report) if test["histogram"] is not None]
    drawn = sorted(drawn, key=lambda each: each[1]["verdict"] == "none")[:MOST_PANELS]
    if not drawn:
        return None
    n_rows = -(-len(drawn) // PANELS_WIDE)
    with sheet(height=0.5 + 1.75 * n_rows, width=INCHES_DRIFT) as figure:
        for axes, (family, test) in zip(panels(figure, len(drawn), PANELS_WIDE), drawn, strict=True):
            _draw_distribution(axes, family, test)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return png(figure)


def _tests(report: Document) -> list[tuple[str, Document]]:
    return [(family["name"], test) for family in report["families"] for test in family["tests"]]


def _color(test: Document) -> str:
    return BLUE if test["verdict"] == "none" else ORANGE


def _relative(effect: float, report: Document, family: str) -> float:
    """Return an effect relative to its limit; the AUC of the domain classifier counts from 0.5."""
    no_effect = 0.5 if family == "features" else 0.0
    limit = report["limits"][family]["warn"] - no_effect
    return max(0.0, effect - no_effect) / limit if limit > 0 else LARGEST_EFFECT


def _draw_distribution(axes: "Axes", family: str, test: Document) -> None:
    shown = test["histogram"]
    axes.stairs(shown["reference"], shown["edges"], fill=True, color=GREY, alpha=0.4, label="reference images")
    axes.stairs(shown["new"], shown["edges"], color=_color(test), linewidth=1.8, label="new images")
    name = humanize(test["name"]) if family == "pixels" else f"{family}: {humanize(test['name'])}"
    axes.set_title(textwrap.shorten(name, 30), fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.set_yticks([])
    axes.grid(visible=False)
