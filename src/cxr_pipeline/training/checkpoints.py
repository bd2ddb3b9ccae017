"""State of a training phase on disk, from which interrupted training resumes and finished training is loaded.

There is one file per phase, named after a digest of everything that affects its result. It contains the history, the
weights of each epoch that some metric selects, and the last state of network and optimizer. A training run that differs
only in ``training.monitor`` reads the same file and selects another epoch.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxr_pipeline.common.files import written_atomically

Row = dict[str, float | str | int]
Arrays = list[np.ndarray]
EpochCallback = Callable[[Row], None]

# Checkpoints of finished training are kept for later runs of the same configuration. The largest, of a fine-tuned
# DenseNet121 with a different epoch for every metric, takes about 0.2 GB, so that there is room for several ablations.
MAX_BYTES = 4 * 2**30

logger = logging.getLogger(__name__)

# A context variable, because a Kedro session cannot pass a callback to the training.
_callback: ContextVar[EpochCallback | None] = ContextVar("epoch_callback", default=None)


@dataclass
class PhaseState:
    """A phase after its last complete epoch. Epochs are numbered from 0."""

    history: list[Row] = field(default_factory=list)
    # Weights after each epoch that some metric selects, and states of the random generators after each epoch.
    selected: dict[int, Arrays] = field(default_factory=dict)
    random: dict[int, Arrays] = field(default_factory=dict)
    # Of the network and the optimizer after the last epoch; empty if no epoch can follow.
    variables: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> PhaseState:
        """Read a state, or return an empty one if the file is missing or damaged."""
        if not path.exists():
            return cls()
        groups: dict[str, Arrays] = defaultdict(list)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                history = json.loads(str(arrays["history"]))
                for name in arrays.files[1:]:
                    groups[name.rpartition("/")[0]].append(arrays[name])
            state = cls(history, variables=groups.pop("variables", []), optimizer=groups.pop("optimizer", []))
            for name, values in groups.items():
                group, epoch = name.split("/")
                getattr(state, group)[int(epoch)] = values
        except Exception as error:  # zipfile and numpy raise errors of many types for damaged files
            logger.warning("The checkpoint %s is damaged (%s). Training starts from the beginning.", path, error)
            return cls()
        with suppress(OSError):
            os.utime(path)  # `prune` keeps the most recently used files.
        return state

    def save(self, path: Path) -> None:
        """Replace the file of this phase atomically."""
        groups = {"variables": self.variables, "optimizer": self.optimizer}
        for group, by_epoch in (("selected", self.selected), ("random", self.random)):
            groups |= {f"{group}/{epoch}": values for epoch, values in by_epoch.items()}
        arrays = {f"{name}/{index}": value for name, values in groups.items() for index, value in enumerate(values)}
        with written_atomically(path) as temporary:
            np.savez(temporary, allow_pickle=False, history=np.array(json.dumps(self.history)), **arrays)


def prune(folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Remove the least recently used checkpoints of a folder, down to a total size.

    This is safe while other processes train: an open file stays readable, a missing phase is trained again, and a
    running process keeps its state in memory and writes it again after its next epoch.
    """
    files = []
    for path in folder.glob("*.npz"):
        with suppress(FileNotFoundError):  # Another process may be pruning the same folder.
            files.append((path.stat(), path))
    total = 0
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns, reverse=True):
        total += stat.st_size
        if total > max_bytes:
            path.unlink(missing_ok=True)


@contextmanager
def epoch_callback(callback: EpochCallback) -> Iterator[None]:
    """Call a function with the row of each saved epoch in this context; an exception in it stops the training."""
    token = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(token)


def run_epoch_callback(row: Row) -> None:
    """Call the callback of this context, if there is one, with the history row of an epoch."""
    if callback := _callback.get():
        callback(row)
