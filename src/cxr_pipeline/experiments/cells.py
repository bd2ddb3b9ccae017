"""The cells of an ablation: their parameters, folders and outcomes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments.jobs import Outcome

OUTCOME = "outcome.json"
MLFLOW_RUN = "run.json"
# Maximum length in the name of a folder; file systems allow 143 to 255 characters.
MAX_NAME_LENGTH = 100


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
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return parent / f"{readable[:MAX_NAME_LENGTH]}-{digest[:12]}"


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
        with suppress(OSError, ValueError):
            outcome |= json.loads((folder / file).read_text())
    return outcome


def is_done(folder: Path) -> bool:
    """Return whether the cell of a folder has succeeded."""
    return load_outcome(folder).get("error", "not run") is None
