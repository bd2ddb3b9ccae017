"""The cells of an ablation: their parameters, folders and outcomes, and the table that compares them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import flatten, lay_over
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.evaluation.paired_bootstrap import holm, match_images, paired_differences
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.experiments.task_run import RunOutputs
from cxr_pipeline.report.formatting import HIGH, LOW, TOO_FEW, value_of
from cxr_pipeline.report.kinds import kind_of
from cxr_pipeline.training.epoch_selection import EpochSelector

OUTCOME = "outcome.json"
MLFLOW_RUN = "run.json"
# Maximum length in the name of a folder; file systems allow 143 to 255 characters.
MAX_NAME_LENGTH = 100

METRICS = ("accuracy", "sensitivity", "precision", "specificity", "auc", "balanced_accuracy")
COMPARED = "auc"
AUC_TOO_FEW = f"{COMPARED}{TOO_FEW}"
ENDS = {"": "value", LOW: "low", HIGH: "high"}
COMPARISON = (*(f"{COMPARED}_difference{end}" for end in ENDS), "p_value", "p_holm", "images_left_out", "not_compared")
COSTS = ("validation_auc", "kept_epoch", "seconds", "peak_memory_mb", "error", "commit")
COUNTS = ("n_images", "images_left_out", "kept_epoch")
FLAGS = ("is_baseline", "collapsed")
TEXTS = ("cell", "not_compared", "error", "commit")


def cross(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Combine the levels of factors, each with the parameters that it overrides, into a full grid.

    A cell is named by its levels; the last factor changes fastest.

    Example:
        >>> cross({"loss": {"focal": {"loss": "focal"}}, "views": {"0": {"views": 0}, "2": {"views": 2}}})
        {'focal, 0': {'loss': 'focal', 'views': 0}, 'focal, 2': {'loss': 'focal', 'views': 2}}
    """
    cells = {}
    for levels in itertools.product(*(factor.items() for factor in factors.values())):
        overrides: dict[str, Any] = {}
        for _, override in levels:
            overrides = lay_over(overrides, override)
        cells[", ".join(name for name, _ in levels)] = overrides
    return cells


def cell_folder(parent: Path, name: str, digest: str) -> Path:
    """Return the folder of a cell, named after the cell (shortened) and the digest of its result."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)[:MAX_NAME_LENGTH]
    return parent / f"{readable}-{digest[:12]}"


def save_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the outcome of the process of a cell."""
    with written_atomically(folder / OUTCOME) as beside:
        beside.write_text(json.dumps(asdict(outcome)))


def save_mlflow_run(folder: Path, run_id: str | None) -> None:
    """Write the MLflow run of a cell and the commit of this code; called in the process of the cell."""
    with written_atomically(folder / MLFLOW_RUN) as beside:
        beside.write_text(json.dumps({"run_id": run_id, "commit": git_commit()}))


def load_outcome(folder: Path) -> dict[str, Any]:
    """Read the outcome of a cell: the fields of `Outcome` if it has ended, ``run_id`` and ``commit``."""
    outcome: dict[str, Any] = {"run_id": None, "commit": None}
    for file in (OUTCOME, MLFLOW_RUN):
        # A file that is missing or damaged belongs to a cell that has not ended.
        with suppress(OSError, ValueError, TypeError):
            outcome |= json.loads((folder / file).read_text())
    return outcome


def is_done(folder: Path) -> bool:
    """Return whether the cell of a folder has succeeded."""
    return load_outcome(folder).get("error", "not run") is None


def cell_table(
    cells: Sequence[Mapping[str, Any]],
    *,
    task: str,
    training: Mapping[str, Any],
    outputs: Sequence[str],
    exclusive: bool,
    bootstrap: Mapping[str, Any],
) -> pd.DataFrame:
    """Tabulate the cells of an ablation.

    A cell has a ``name``, ``overrides``, a ``folder`` and the items of `load_outcome`; the first is the baseline.
    ``training`` are the parameters of the task, ``bootstrap`` those of the paired comparison.

    Returns:
        A row for each cell, null where a value is missing: ``cell``; ``is_baseline``; each parameter that any cell
        overrides, as text or JSON; each of ``METRICS`` on the test images with ``_low`` and ``_high``;
        ``auc_too_few_patients``; the comparison with the baseline: ``auc_difference`` with ``_low`` and ``_high``,
        ``p_value``, ``p_holm`` (adjusted for all cells), ``images_left_out`` (tested in only one of the two) and
        ``not_compared`` (the reason); ``collapsed`` if the decisions are nearly all the same; ``n_images``; ``COSTS``.
    """
    settings = {"outputs": outputs, "exclusive": exclusive, "bootstrap": bootstrap}
    runs = [None if cell["error"] else RunOutputs(Path(cell["folder"]), task) for cell in cells]
    baseline = runs[0].load("test_scores") if runs[0] is not None else None
    parameters = [flatten(cell["overrides"]) for cell in cells]
    rows = []
    for cell, run, overrides in zip(cells, runs, parameters, strict=True):
        row = {"cell": cell["name"], "is_baseline": cell is cells[0], "error": cell["error"], "commit": cell["commit"]}
        for name, value in overrides.items():
            row[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if run is not None:
            selected = _selected_epoch(run.load("history"), lay_over(training, cell["overrides"].get("training", {})))
            row |= {**_metric_columns(run.load("metrics"), outputs), **selected}
            row |= {"seconds": cell["seconds"], "peak_memory_mb": cell["peak_memory_mb"]}
            if cell is not cells[0]:
                row |= _comparison(run.load("test_scores"), baseline, **settings)
        rows.append(row)
    return _with_types(rows, list(dict.fromkeys(name for overrides in parameters for name in overrides)))


def _selected_epoch(history: pd.DataFrame, training: Mapping[str, Any]) -> dict[str, Any]:
    rows = EpochSelector.of_training(**training).select_rows(history)
    return {"validation_auc": rows["val_auc"].mean(), "kept_epoch": int(rows["epoch"].median())}


def _metric_columns(metrics: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    values = {f"{name}{end}": value_of(metrics["metrics"], name, key) for name in METRICS for end, key in ENDS.items()}
    values[AUC_TOO_FEW] = value_of(metrics["metrics"], COMPARED, "too_few_patients")
    collapsed = bool(kind_of({"kind": metrics["kind"], "classes": outputs}).collapsed(metrics))
    return {**values, "collapsed": collapsed, "n_images": metrics["n_images"]}


def _comparison(scores: pd.DataFrame, baseline: pd.DataFrame | None, **settings: Any) -> dict[str, Any]:
    """Compare a cell with the baseline, or return the reason why that is impossible."""
    if baseline is None:
        return {"not_compared": "The baseline failed."}
    try:
        *_, n_left_out = match_images(scores, baseline, settings["outputs"])
        difference = paired_differences(scores, baseline, **settings)[COMPARED]
    except ValueError as error:
        return {"not_compared": str(error)}
    ends = {f"{COMPARED}_difference{end}": difference[key] for end, key in ENDS.items()}
    return {**ends, "p_value": difference["p_value"], "images_left_out": n_left_out}


def _with_types(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> pd.DataFrame:
    """Return the rows with all columns, each of a fixed type even if values are missing."""
    metrics = [*(f"{name}{end}" for name in METRICS for end in ENDS), AUC_TOO_FEW]
    columns = ["cell", "is_baseline", *parameters, *metrics, *COMPARISON, "collapsed", "n_images", *COSTS]
    types = {**dict.fromkeys(columns, "float64"), **dict.fromkeys((*TEXTS, *parameters), "string")}
    types |= {**dict.fromkeys(COUNTS, "Int64"), **dict.fromkeys(FLAGS, "boolean")}
    table = pd.DataFrame(rows, columns=columns, dtype=object).astype(types)
    return table.assign(p_holm=holm(table["p_value"].tolist()))
