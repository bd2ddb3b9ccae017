"""What cells leave on disk: which of them are done, and what they found."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments.cell_table import CellFindings
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.experiments.run_outputs import Outputs
from cxr_pipeline.training.epoch_selection import EpochSelector

OUTCOME = "outcome.json"
RUN = "run.json"
# Of a cell, in the name of its folder; file systems take 143 to 255 characters.
LONGEST_NAME = 100


@dataclass(frozen=True)
class CellResult:
    """A cell that was run.

    Args:
        name: of the cell.
        overrides: parameters that differ from the task's, nested.
        folder: where its outputs lie.
        error: None where it succeeded.
        seconds: of wall time.
        peak_memory_mb: the most memory that its process held, in MiB.
        may_pass: whether it may succeed when it is run again as it is.
        run_id: of its MLflow run; None where nothing is tracked or it never began.
        commit: of the code that ran it; None where it never began.
    """

    name: str
    overrides: Mapping[str, Any]
    folder: str
    error: str | None
    seconds: float
    peak_memory_mb: float
    may_pass: bool
    run_id: str | None
    commit: str | None


def cell_folder(parent: Path, name: str, digest: str) -> Path:
    """The folder of a cell: its name, for people, cut where it is long, and what its result depends on."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return parent / f"{readable[:LONGEST_NAME]}-{digest[:12]}"


def keep(outcome: Outcome, folder: Path) -> None:
    """Keep how a cell ended, for the next run."""
    with written_atomically(folder / OUTCOME) as beside:
        beside.write_text(json.dumps(asdict(outcome)))


def is_done(folder: Path) -> bool:
    """Whether the cell of a folder was run before and succeeded."""
    outcome = _read(folder / OUTCOME)
    return bool(outcome) and outcome.get("error") is None


def result_of(name: str, overrides: Mapping[str, Any], folder: Path) -> CellResult:
    """What became of a cell that was run, now or before."""
    outcome, run = _read(folder / OUTCOME), _read(folder / RUN)
    return CellResult(
        name=name,
        overrides=overrides,
        folder=str(folder),
        error=outcome["error"],
        seconds=outcome["seconds"],
        peak_memory_mb=outcome["peak_memory_mb"],
        may_pass=outcome["may_pass"],
        run_id=run.get("run_id"),
        commit=run.get("commit"),
    )


def note_run(folder: Path, run_id: str | None) -> None:
    """Note in the folder of a cell its MLflow run, and the code that ran it."""
    with written_atomically(folder / RUN) as beside:
        beside.write_text(json.dumps({"run_id": run_id, "commit": git_commit()}))


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_findings(result: CellResult, *, task: str, choice: EpochSelector) -> CellFindings:
    """What a cell found, from the files that it left.

    Args:
        result: of the cell.
        task: name of its task.
        choice: what chose its epoch.
    """
    overridden = flatten(result.overrides)
    if result.error is not None:
        return CellFindings(parameters=overridden, error=result.error, commit=result.commit)
    outputs = Outputs(Path(result.folder), task)
    history = outputs.history
    kept = choice.select([{choice.monitor: value} for value in history[choice.monitor]])
    return CellFindings(
        parameters=overridden,
        metrics=outputs.metrics,
        test_scores=outputs.test_scores,
        validation_auc=float(history["val_auc"].iloc[kept]),
        kept_epoch=int(history["epoch"].iloc[kept]),
        seconds=result.seconds,
        peak_memory_mb=result.peak_memory_mb,
        error=None,
        commit=result.commit,
    )
