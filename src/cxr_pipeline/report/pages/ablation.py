"""The page of an ablation: its cells and their differences from the baseline."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from cxr_pipeline.report.figures.intervals import draw_cells
from cxr_pipeline.report.formatting import Document, as_yaml, measure, p_value, percent, plural, quoted, words
from cxr_pipeline.report.page import RESEARCH, Block, Page, Section, Table, Verdict, records

LEVEL = 0.05
LONGEST_ERROR = 600
DECIDED = ("accuracy", "sensitivity", "specificity", "precision", "balanced_accuracy")
COSTS = {"kept_epoch": "selected epoch", "seconds": "seconds", "peak_memory_mb": "peak memory in MB"}
# The overridden parameters are the columns of the table between these two.
BEFORE_PARAMETERS, AFTER_PARAMETERS = "is_baseline", "accuracy"


def render_ablation(table: pd.DataFrame, *, task: Document, phantom: bool, bootstrap: Document) -> str:
    """Render the page of a table from ``cell_table``, also as a CSV file gives it back, as HTML.

    ``task`` has a ``name`` and a ``title``, ``bootstrap`` the ``replicates`` and ``confidence`` of the intervals.
    """
    rows = records(table)
    differences = [_difference(row) for row in _differing(rows)]
    sections = [
        Section("Differences from the baseline", [differences], anchor="differences"),
        Section.warnings(_warnings(rows, task["name"], bootstrap["replicates"])),
        Section("Figure", [{"ablation": draw_cells(table)}], anchor="figures"),
        _results(rows, list(table.columns)),
        _uncertainty(bootstrap),
    ]
    intro = f"Each cell runs the pipeline of the task “{task['name']}” with a few parameters overridden. {RESEARCH}"
    return Page(f"{task['title']}: ablation", _verdict(rows), sections, phantom, [intro], style="ablation").html()


def _verdict(rows: Sequence[Document]) -> Verdict:
    """Say how many cells differ from the baseline, with the AUC of the baseline."""
    counts = [int(row["n_images"]) for row in rows if row["n_images"] is not None]
    facts = {"Baseline": _named(rows, "is_baseline"), "Cells": f"{len(rows)}, each run once"}
    if counts:
        facts["Test images"] = " to ".join(f"{count:,}" for count in dict.fromkeys([min(counts), max(counts)]))
    baseline = next((row["auc"] for row in rows if row["is_baseline"]), None)
    return Verdict(_comparison(rows), {"AUC of the baseline": measure(baseline)} if baseline else {}, facts)


def _differing(rows: Sequence[Document]) -> list[Document]:
    return [row for row in rows if row["p_holm"] is not None and row["p_holm"] < LEVEL]


def _comparison(rows: Sequence[Document]) -> str:
    """Say how many cells differ from the baseline."""
    adjusted = [row["p_holm"] for row in rows if row["p_holm"] is not None]
    if not adjusted:
        few = any(row["auc_difference"] for row in rows)
        return "No cell could be compared with the baseline" + (": there are too few patients." if few else ".")
    if differing := _differing(rows):
        verb = "differs" if len(differing) == 1 else "differ"
        result = f"{len(differing)} {verb} significantly in AUC, after Holm's correction."
    else:
        smallest = f"smallest p-value after Holm's correction {p_value(min(adjusted))}"
        result = f"none differs significantly in AUC ({smallest})."
    unproven = " A difference that is not significant may still exist." * (len(differing) < len(adjusted))
    return f"Of {plural(len(adjusted), 'cell')} compared with the baseline, {result}{unproven}"


def _uncertainty(bootstrap: Document) -> Section:
    text = (
        f"{percent(bootstrap['confidence'])} intervals, by patient where patients are known; those of differences come "
        f"from {bootstrap['replicates']:,} bootstrap replicates, the same for both cells of a comparison. "
        "Intervals and p-values cover only the choice of test images: each cell was trained once, and another seed "
        "may give another result. Only differences in AUC are tested."
    )
    return Section("Uncertainty", [text], anchor="uncertainty")


def _difference(row: Document) -> str:
    value, low, high = row["auc_difference"].values()
    size = f"higher by {measure(row['auc_difference'])}"
    if value < 0:
        size = f"lower by {measure({'value': -value, 'low': -high, 'high': -low})}"
    return f"“{row['cell']}”: AUC {size}, p-value after Holm's correction {p_value(row['p_holm'])}."


def _warnings(rows: Sequence[Document], task: str, replicates: int) -> list[str]:
    warnings = [
        "These are results on the test images: do not choose the best cell by them. Its result would be optimistic, "
        "and the test images could no longer measure performance. To choose parameters, run kedro run "
        f"--pipeline={task}_tuning, which does not use the test images."
    ]
    if collapsed := _named(rows, "collapsed"):
        warnings.append(
            f"Collapsed: {collapsed}. The decision (for multi-label tasks, that on some label) is almost always the "
            "same. A sensitivity near 1 then comes with a specificity near 0, or the reverse."
        )
    if failed := _named(rows, "error"):
        n_failed = sum(bool(row["error"]) for row in rows)
        warnings.append(f"{n_failed} of {len(rows)} cells failed: {failed}. Their errors are at the end of this page.")
    for row in rows:
        if row["not_compared"]:
            warnings.append(f"“{row['cell']}” was not compared with the baseline. {row['not_compared']}")
        if row["images_left_out"]:
            warnings.append(
                f"“{row['cell']}” and the baseline have different test images: {row['images_left_out']:,.0f} images "
                "that only one of them has are left out of the comparison."
            )
    n_compared = sum(row["p_holm"] is not None for row in rows)
    # The smallest p-value of a bootstrap test, times the number of comparisons.
    smallest = 2 * n_compared / (replicates + 1)
    if smallest >= LEVEL:
        warnings.append(
            f"With {replicates:,} bootstrap replicates and {plural(n_compared, 'comparison')}, p-values after Holm's "
            f"correction cannot be below {min(smallest, 1):.3f}, so no difference can be significant. Run it again "
            f"with --params {task}.evaluation.replicates={1000 * -(-100 * n_compared // 1000)}. Only the evaluation is "
            "repeated; the trained models are reused."
        )
    return warnings


def _results(rows: Sequence[Document], columns: Sequence[str]) -> Section:
    parameters = columns[columns.index(BEFORE_PARAMETERS) + 1 : columns.index(AFTER_PARAMETERS)]
    compared, decided, overridden, costs, failed = [], [], [], [], []
    for row in rows:
        name = f"{row['cell']} (baseline)" if row["is_baseline"] and row["cell"] != "baseline" else row["cell"]
        auc, *decisions = (row[metric] for metric in ("auc", *DECIDED))
        if row["error"]:
            auc, decisions = "failed", [""] * len(DECIDED)
            failed.append((name, textwrap.shorten(row["error"], LONGEST_ERROR)))
        p_values = [_unless_missing(row[key], p_value) for key in ("p_value", "p_holm")]
        collapsed = "yes" if row["collapsed"] else ""
        compared.append((name, auc, row["auc_difference"] or "", *p_values, collapsed))
        decided.append((name, *decisions))
        overridden += [(name, each, as_yaml(row[each])) for each in parameters if row[each] is not None]
        cost = (_unless_missing(row[each], round) for each in COSTS)
        costs.append((name, _unless_missing(row["validation_auc"], float), *cost))
    heads = ("cell", "AUC", "difference in AUC", "p-value", "p after Holm", "collapsed")
    decisions_table = Table(("cell", *map(words, DECIDED)), decided, "measured")
    blocks: list[Block] = [
        Table(heads, compared, "measured"),
        Section("Decisions", [decisions_table], "With the decision rule of each cell."),
        Section("Overridden parameters", [Table(("cell", "parameter", "value"), overridden, "code") or "None."]),
        Section("Cost", [Table(("cell", "validation AUC", *COSTS.values()), costs, "counted")], style="folded"),
        Section("Failed cells", [Table(("cell", "error"), failed, "long")]),
    ]
    intro = "On the test images, with intervals in brackets. The difference is the AUC of the cell minus the baseline."
    return Section("Results", blocks, intro, anchor="results")


def _unless_missing(value: Any, shown: Callable[[Any], Any]) -> Any:
    return "" if value is None else shown(value)


def _named(rows: Sequence[Document], condition: str) -> str:
    return quoted([str(row["cell"]) for row in rows if row[condition]])
