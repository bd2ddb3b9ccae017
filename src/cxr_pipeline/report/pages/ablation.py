"""The page of an ablation: its cells beside each other, and which of them differ from the baseline.

``table`` is that of :func:`cxr_pipeline.experiments.cell_table.cell_table`, also as a CSV file gives it back.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.report.figures.style import BLUE, GREY, ORANGE, png, sheet
from cxr_pipeline.report.pages.page import Picture
from cxr_pipeline.report.rendering import fill, png_uri
from cxr_pipeline.report.words.tables import Table
from cxr_pipeline.report.words.text import as_text, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.05
INCHES_WIDE = 9.0
LONGEST_NAME, LONGEST_ERROR = 56, 600
PANELS = {"auc": 1.9, "accuracy": 1, "sensitivity": 1, "specificity": 1}
RECALL = " (recall)"
TITLES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": f"sensitivity{RECALL}",
    "specificity": "specificity",
    "precision": "precision",
    "balanced_accuracy": "balanced accuracy",
}
COSTS = {
    "validation_auc": "AUC on validation images",
    "kept_epoch": "epoch kept",
    "seconds": "seconds",
    "peak_memory_mb": "peak memory in MB",
}
DECIDED = ("accuracy", "sensitivity", "specificity", "precision", "balanced_accuracy")
BEFORE_PARAMETERS, AFTER_PARAMETERS = "is_baseline", "accuracy"
EXPLAINS = (
    "This table is measured on the test images: it explains, it must not choose. Whoever takes the best row of it takes "
    "its luck too, and these images can no longer say how good the model is. To choose, run "
    "kedro run --pipeline={task}_tuning, which never sees the test images."
)


def draw_cells(table: pd.DataFrame) -> bytes:
    """A row for each cell: AUC, accuracy, sensitivity and specificity with their intervals.

    The dashed line is the baseline. Cells that collapsed are orange and hollow; of one that failed there is the name.

    Args:
        table: see above.

    Returns:
        PNG bytes.
    """
    rows = _rows(table)
    height = 1.1 + 0.34 * len(rows)
    with sheet(height=height, width=INCHES_WIDE) as figure:
        panels = figure.subplots(1, len(PANELS), sharey=True, width_ratios=list(PANELS.values()))
        for axes, name in zip(panels, PANELS, strict=True):
            for place, row in enumerate(rows):
                _draw(axes, place, row, name)
            axes.set_title(TITLES[name].removesuffix(RECALL), fontsize=10, loc="left")
            axes.tick_params(labelsize=9)
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
        for axes in panels[1:]:
            axes.set(xlim=(-0.09, 1.09), xticks=(0, 0.5, 1), xticklabels=("0", "0.5", "1"))
        panels[0].set_xlim(right=1.01)
        panels[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        return png(figure)


def render_ablation(
    table: pd.DataFrame, *, task: Mapping[str, Any], phantom: bool, bootstrap: Mapping[str, Any]
) -> str:
    """Write the page.

    Args:
        table: see above.
        task: ``name`` and ``title``.
        phantom: whether the images were drawn by a program.
        bootstrap: ``replicates`` and ``confidence`` of every interval.

    Returns:
        HTML that loads nothing from anywhere. Names of cells, parameters and errors are escaped.
    """
    rows = _rows(table)
    differing = [row for row in rows if row["p_holm"] is not None and row["p_holm"] < LEVEL]
    picture = Picture(
        "AUC, and what the decisions reach",
        "Points with their intervals; the dashed line is the baseline. Hollow orange points are cells whose decision "
        "is nearly always the same.",
        png_uri(draw_cells(table)),
        "dense",
    )
    return fill(
        "ablation.html.j2",
        task=task,
        phantom=phantom,
        pictures=[picture],
        what=_what(rows),
        verdict=_verdict(rows, differing),
        differing=[_differs(row) for row in differing],
        how_sure=_how_sure(bootstrap),
        warnings=_warnings(rows, task["name"], bootstrap["replicates"]),
        **_tables(rows, list(table.columns)),
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the table, None where something is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _named(rows: Sequence[Mapping[str, Any]], condition: str) -> list[str]:
    return [f"“{row['cell']}”" for row in rows if row[condition]]


def _what(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({int(row["n_images"]) for row in rows if row["n_images"] is not None})
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts or [0])[:: max(1, len(counts) - 1)]))
    tested = f" They were tested on {images} images." if counts else ""
    cells = "One cell was run" if len(rows) == 1 else f"{len(rows)} cells were run, each once"
    return f"{cells}. The baseline is {listed(_named(rows, 'is_baseline'))}.{tested}"


def _verdict(rows: Sequence[Mapping[str, Any]], differing: Sequence[Mapping[str, Any]]) -> str:
    adjusted = [row["p_holm"] for row in rows if row["p_holm"] is not None]
    if not adjusted:
        return "No cell could be compared with the baseline."
    of = f"Of {len(adjusted)} cell{'s' if len(adjusted) > 1 else ''} compared with the baseline"
    unproven = "That a difference is not shown does not prove that there is none."
    if not differing:
        return (
            f"{of}, none has an AUC that differs by more than chance in the choice of test images explains (smallest "
            f"p-value after Holm's correction {_p_value(min(adjusted))}). {unproven}"
        )
    differ = "differs" if len(differing) == 1 else "differ"
    rest = f" {unproven}" if len(differing) < len(adjusted) else ""
    return f"{of}, {len(differing)} {differ} from it significantly in AUC, after Holm's correction for them all.{rest}"


def _differs(row: Mapping[str, Any]) -> str:
    value, low, high = (row[f"auc_difference{end}"] for end in ("", "_low", "_high"))
    size = f"higher by {value:.3f} ({low:.3f} to {high:.3f})"
    if value < 0:
        size = f"lower by {-value:.3f} ({-high:.3f} to {-low:.3f})"
    return f"“{row['cell']}”: {size}, p {_p_value(row['p_holm'], equals='= ')} after Holm's correction."


def _how_sure(bootstrap: Mapping[str, Any]) -> str:
    return (
        f"Intervals are {100 * bootstrap['confidence']:g} % intervals of {bootstrap['replicates']:,} bootstrap "
        "replicates, in which patients are drawn whole where they are known, for both cells of a comparison the same "
        "ones. They and the p-values cover chance in the choice of the test images alone: each cell was trained once, "
        "and the same cell with another seed can differ too. Only the AUC is tested; the other measures are shown, not "
        "tested."
    )


def _warnings(rows: Sequence[Mapping[str, Any]], task: str, replicates: int) -> list[str]:
    """What a reader must know, the most important first."""
    found = [EXPLAINS.format(task=task)]
    collapsed, failed = _named(rows, "collapsed"), _named(rows, "error")
    if collapsed:
        found.append(
            f"{listed(collapsed)} {'has' if len(collapsed) == 1 else 'have'} collapsed: the decision, or where images "
            "may have several labels that on one of them, is nearly always the same, whatever the image shows. A "
            "sensitivity near 1 is then no success: it is paid for with a specificity near 0, or the other way round."
        )
    if failed:
        found.append(f"{len(failed)} of {len(rows)} cells failed: {listed(failed)}. The reasons are at the end.")
    for row in rows:
        if row["not_compared"]:
            found.append(f"“{row['cell']}” was not compared with the baseline. {row['not_compared']}")
        if row["images_left_out"]:
            found.append(
                f"“{row['cell']}” and the baseline were not tested on the same images: {row['images_left_out']:,.0f} "
                "that only one of them has are left out of their comparison."
            )
    n_compared = sum(row["p_holm"] is not None for row in rows)
    smallest = 2 * n_compared / (replicates + 1)
    if smallest >= LEVEL:
        found.append(
            f"With {replicates:,} bootstrap replicates and {n_compared} comparisons no p-value after Holm's correction "
            f"can be below {min(smallest, 1):.3f}, so that no difference can be shown. Run it again with --params "
            f"{task}.evaluation.replicates={1000 * -(-100 * n_compared // 1000)}. That measures "
            "every cell again; the trainings are taken over as long as nothing else is changed."
        )
    return found


def _tables(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, Table | None]:
    parameters = columns[columns.index(BEFORE_PARAMETERS) + 1 : columns.index(AFTER_PARAMETERS)]
    compared = [
        (
            _name(row),
            "failed" if row["error"] else _interval(row, "auc"),
            *_comparison(row),
            "yes" if row["collapsed"] else "",
        )
        for row in rows
    ]
    decided = [(_name(row), *(_interval(row, name) for name in DECIDED)) for row in rows]
    overridden = [(_name(row), *(_parameter(row[name]) for name in parameters)) for row in rows]
    costs = [(_name(row), *(_cost(name, row[name]) for name in COSTS)) for row in rows]
    failed = [(_name(row), textwrap.shorten(row["error"], LONGEST_ERROR)) for row in rows if row["error"]]
    return {
        "compared": Table(
            ("cell", "AUC", "difference in AUC", "p-value", "p after Holm", "collapsed"), tuple(compared)
        ),
        "decided": Table(("cell", *(TITLES[name] for name in DECIDED)), tuple(decided)),
        "overridden": Table(("cell", *parameters), tuple(overridden)) if parameters else None,
        "costs": Table(("cell", *COSTS.values()), tuple(costs)),
        "failed": Table(("cell", "reason"), tuple(failed)) if failed else None,
    }


def _comparison(row: Mapping[str, Any]) -> tuple[str, str, str]:
    if row["p_holm"] is None:
        return _interval(row, "auc_difference"), "", ""
    return _interval(row, "auc_difference"), _p_value(row["p_value"]), _p_value(row["p_holm"])


def _interval(row: Mapping[str, Any], name: str) -> str:
    """``"0.812 (0.761 to 0.860)"``, which breaks before the bracket only; blank where there is no value."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "" if row["error"] or name == "auc_difference" else "not defined"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}\u00a0to\u00a0{high:.3f})"


def _p_value(value: float, equals: str = "") -> str:
    return f"{equals}{value:.3f}" if value >= 0.0005 else "below 0.001"


def _parameter(value: object) -> str:
    """What a cell overrides with; of a CSV file come numbers and truth values back for text."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cost(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return as_text(float(value)) if name == "validation_auc" else f"{value:,.0f}"


def _name(row: Mapping[str, Any]) -> str:
    """The name of a cell, and that it is the baseline where the name does not say so."""
    name = str(row["cell"])
    return f"{name} (baseline)" if row["is_baseline"] and name != "baseline" else name


def _label(row: Mapping[str, Any]) -> str:
    """The name of a cell in at most two lines or so, and what is the matter with it."""
    is_baseline = row["is_baseline"] and row["cell"] != "baseline"
    states = {"baseline": is_baseline, "collapsed": row["collapsed"], "failed": row["error"]}
    matter = "".join(f" ({state})" for state, holds in states.items() if holds)
    name = " ".join(str(row["cell"]).split())
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return textwrap.fill(short + matter, 34)


def _draw(axes: "Axes", place: int, row: Mapping[str, Any], name: str) -> None:
    """One measure of one cell."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    collapsed = bool(row["collapsed"])
    color = ORANGE if collapsed else BLUE
    text = "" if row["error"] else "not defined"
    if value is not None:
        if row["is_baseline"]:
            axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=color)
        axes.plot(value, place, "o", color=color, markersize=6, markerfacecolor="white" if collapsed else color)
        text = f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"
    if name == "auc":
        beside = "failed" if row["error"] else text
        axes.text(1.02, place, beside, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
