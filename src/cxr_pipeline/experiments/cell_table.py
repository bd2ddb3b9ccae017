"""The table of an ablation: what each cell overrides, what its model is worth, and how far it is from the baseline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cxr_pipeline.evaluation.paired_bootstrap import holm, match_images, paired_differences
from cxr_pipeline.report.formatting import value_of
from cxr_pipeline.report.kinds import kind_of

MEASURED = ("accuracy", "sensitivity", "precision", "specificity", "auc", "balanced_accuracy")
COMPARED = "auc"
ENDS = {"": "value", "_low": "low", "_high": "high"}
COMPARISON = (*(f"{COMPARED}_difference{end}" for end in ENDS), "p_value", "p_holm", "images_left_out", "not_compared")
COSTS = ("validation_auc", "kept_epoch", "seconds", "peak_memory_mb", "error", "commit")
COUNTS = ("n_images", "images_left_out", "kept_epoch")
FLAGS = ("is_baseline", "collapsed")
TEXTS = ("cell", "not_compared", "error", "commit")


@dataclass(frozen=True, eq=False)
class CellFindings:
    """What a cell of an experiment came to.

    Args:
        parameters: dotted name to value of what it overrides, such as ``{"training.loss": "cross_entropy"}``.
        metrics: its ``metrics.json``.
        test_scores: score table of the test images with decisions.
        validation_auc: of the epoch kept.
        kept_epoch: the epoch whose weights were kept.
        seconds: how long it took.
        peak_memory_mb: the most memory that its process held.
        error: why it failed; all but its parameters and the commit is then None.
        commit: of the code that ran it; None where it never began.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] | None = None
    test_scores: pd.DataFrame | None = None
    validation_auc: float | None = None
    kept_epoch: int | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str | None = None
    commit: str | None = None


def cell_table(
    cells: Mapping[str, CellFindings],
    *,
    baseline: str | None,
    outputs: Sequence[str],
    exclusive: bool,
    bootstrap: Mapping[str, Any],
) -> pd.DataFrame:
    """Put the cells of an experiment beside each other.

    Args:
        cells: what each came to, by name; rows are in their order.
        baseline: the cell that the others are compared with; None for the first.
        outputs: names of the outputs of every cell.
        exclusive: whether an image has just one class.
        bootstrap: ``replicates``, ``confidence`` and ``seed`` of the paired comparison.

    Returns:
        A row for each cell: ``cell``; ``is_baseline``; a column for each parameter that any cell overrides, as text,
        JSON where it is none; each of ``MEASURED`` on the test images with ``_low`` and ``_high``;
        ``auc_difference`` from the baseline with ``_low`` and ``_high``, ``p_value``, and ``p_holm``, which is adjusted
        for all cells compared; ``images_left_out`` of the comparison, which only one of the two was tested on;
        ``not_compared``, why there is no comparison; ``collapsed``, whether the decision is nearly always the same, as
        the report of a task has it; ``n_images``, ``validation_auc``, ``kept_epoch``, ``seconds``, ``peak_memory_mb``,
        ``error`` and ``commit``, of the code that ran it. What a cell does not have is missing.

    Raises:
        ValueError: there is no cell, or none of the name of the baseline.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    if not cells:
        raise ValueError("An experiment must have a cell.")
    first = next(iter(cells)) if baseline is None else baseline
    if first not in cells:
        raise ValueError(f"No cell is called {first!r}, the baseline. Received: {', '.join(cells)}")
    settings = {"outputs": outputs, "exclusive": exclusive, "bootstrap": bootstrap}
    rows = []
    for name, found in cells.items():
        compared = {} if name == first else _compared(found, cells[first], **settings)
        costs = {cost: getattr(found, cost) for cost in COSTS}
        parameters = {parameter: _written(value) for parameter, value in found.parameters.items()}
        described = {"cell": name, "is_baseline": name == first, **parameters}
        rows.append({**described, **_measured(found.metrics, outputs), **compared, **costs})
    return _typed(rows, [parameter for found in cells.values() for parameter in found.parameters])


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _measured(metrics: Mapping[str, Any] | None, outputs: Sequence[str]) -> dict[str, Any]:
    """What the metrics of a cell say; nothing of one that failed."""
    if metrics is None:
        return {}
    values = {f"{name}{end}": value_of(metrics["metrics"], name, key) for name in MEASURED for end, key in ENDS.items()}
    collapsed = kind_of({"kind": metrics["kind"], "classes": outputs}).collapsed(metrics) is not None
    return {**values, "collapsed": collapsed, "n_images": metrics["n_images"]}


def _compared(found: CellFindings, baseline: CellFindings, **settings: Any) -> dict[str, Any]:
    """The comparison of a cell with the baseline, or why there is none."""
    if found.test_scores is None:
        return {}
    if baseline.test_scores is None:
        return {"not_compared": "The baseline failed."}
    try:
        images = match_images(found.test_scores, baseline.test_scores, settings["outputs"])
        difference = paired_differences(found.test_scores, baseline.test_scores, **settings)[COMPARED]
    except ValueError as error:
        return {"not_compared": str(error)}
    ends = {f"{COMPARED}_difference{end}": difference[key] for end, key in ENDS.items()}
    return {**ends, "p_value": difference["p_value"], "images_left_out": images.n_left_out}


def _typed(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> pd.DataFrame:
    """The rows with every column, whatever is missing, of one type each."""
    texts = [*TEXTS, *dict.fromkeys(parameters)]
    measured = [f"{name}{end}" for name in MEASURED for end in ENDS]
    columns = ["cell", "is_baseline", *texts[len(TEXTS) :], *measured, *COMPARISON, "collapsed", "n_images", *COSTS]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    kinds = {**dict.fromkeys(texts, "string"), **dict.fromkeys(COUNTS, "Int64"), **dict.fromkeys(FLAGS, "boolean")}
    table = table.astype({column: kinds.get(column, "float64") for column in columns})
    return table.assign(p_holm=holm(table["p_value"].tolist()))
