"""The state of a training at the end of an epoch, on disk, so that a kill costs at most the current epoch."""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxr_pipeline.common.files import written_atomically

Row = dict[str, float | str | int]

logger = logging.getLogger(__name__)


@dataclass
class State:
    """Where a training stands after its last whole epoch.

    Args:
        history: one row for each epoch, over all phases.
        variables: of the network of the phase that the last epoch belongs to, random states included.
        optimizer: the optimiser's variables.
        kept: weights of the epoch chosen so far.
    """

    history: list[Row] = field(default_factory=list)
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """One file, named by a digest of everything that decides the result.

    Args:
        path: ending in ``.npz``.
    """

    path: Path

    def load(self) -> State:
        """Read the state; a fresh one where there is no file, or only a damaged one."""
        if not self.path.exists():
            return State()
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                history = json.loads(str(arrays["history"]))
                groups = {
                    group: [arrays[f"{group}_{place}"] for place in range(int(arrays[group]))]
                    for group in ("variables", "optimizer", "kept")
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("The checkpoint %s is damaged (%s); training starts again.", self.path, error)
            return State()
        return State(history=history, **groups)

    def save(self, state: State) -> None:
        """Replace what was saved before."""
        arrays: dict[str, np.ndarray] = {"history": np.array(json.dumps(state.history))}
        for group in ("variables", "optimizer", "kept"):
            values = getattr(state, group)
            arrays[group] = np.array(len(values))
            arrays |= {f"{group}_{place}": value for place, value in enumerate(values)}
        with written_atomically(self.path) as beside:
            np.savez(beside, allow_pickle=False, **arrays)

    def remove(self) -> None:
        """Forget the state; nothing to do where there is none."""
        self.path.unlink(missing_ok=True)
