"""The cells of an ablation: their parameters, their folders, and what each one found."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import flatten, lay_over
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.experiments.task_run import RunOutputs
from cxr_pipeline.training.epoch_selection import EpochSelector

OUTCOME = "outcome.json"
MLFLOW_RUN = "run.json"
# In the name of a folder; file systems allow 143 to 255 characters.
MAX_NAME_LENGTH = 100


def cross(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Combine the levels of factors to a full grid.

    Args:
        factors: for each factor its levels by name, and the parameters that each level overrides.

    Returns:
        Overrides by the names of the levels joined with ``, ``, the last factor changing fastest.

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
    """Return the folder of a cell: its name for readers, shortened, and the digest of its result."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return parent / f"{readable[:MAX_NAME_LENGTH]}-{digest[:12]}"


def save_outcome(folder: Path, outcome: Outcome) -> None:
    """Write how the process of a cell ended."""
    with written_atomically(folder / OUTCOME) as beside:
        beside.write_text(json.dumps(asdict(outcome)))


def save_mlflow_run(folder: Path, run_id: str | None) -> None:
    """Write the MLflow run of a cell and the commit of this code; called in the process of the cell."""
    with written_atomically(folder / MLFLOW_RUN) as beside:
        beside.write_text(json.dumps({"run_id": run_id, "commit": git_commit()}))


def load_outcome(folder: Path) -> dict[str, Any]:
    """Read how a cell ended: the fields of `Outcome`, ``run_id`` and ``commit``; without the former if it has not."""
    return {"run_id": None, "commit": None, **_read(folder / OUTCOME), **_read(folder / MLFLOW_RUN)}


def is_done(folder: Path) -> bool:
    """Return whether the cell of a folder has succeeded."""
    return load_outcome(folder).get("error", "not run") is None


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if the file is missing or damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


@dataclass(frozen=True, eq=False)
class CellResult:
    """What a cell found. Of a failed one only ``parameters``, ``error`` and ``commit`` are known.

    Args:
        parameters: dotted name to value of what it overrides, such as ``{"training.loss": "cross_entropy"}``.
        metrics: its ``metrics.json``.
        test_scores: score table of the test images with decisions.
        validation_auc: AUC of the selected epoch on the validation images.
        kept_epoch: the selected epoch, from 1.
        seconds: wall time.
        peak_memory_mb: largest memory of its process, in MiB.
        error: why it failed; None if it succeeded.
        commit: commit of the code that ran it; None if it never began.
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


def read_result(cell: Mapping[str, Any], *, task: str, selector: EpochSelector) -> CellResult:
    """Read what a cell found from the files in its folder.

    Args:
        cell: ``overrides``, ``folder`` and the items of `load_outcome`.
        task: name of its task.
        selector: rule that selected its epoch.
    """
    parameters = flatten(cell["overrides"])
    if cell["error"] is not None:
        return CellResult(parameters=parameters, error=cell["error"], commit=cell["commit"])
    outputs = RunOutputs(Path(cell["folder"]), task)
    history = outputs.history
    kept = history.iloc[selector.select([{selector.monitor: value} for value in history[selector.monitor]])]
    return CellResult(
        parameters=parameters,
        metrics=outputs.metrics,
        test_scores=outputs.test_scores,
        validation_auc=float(kept["val_auc"]),
        kept_epoch=int(kept["epoch"]),
        seconds=cell["seconds"],
        peak_memory_mb=cell["peak_memory_mb"],
        commit=cell["commit"],
    )
