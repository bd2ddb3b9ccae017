"""What cells have in common is done once: which waits for which, and what they leave for each other."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

from cxr_pipeline.common.mappings import flatten, json_digest
from cxr_pipeline.experiments.digests import fine_tunes, is_below
from cxr_pipeline.training.networks.weights import is_pretrained

# What must be equal for two cells to compute the same features of the same images, beside the augmentation.
FEATURES = (
    *("resolution.size", "resolution.mode", "morphology"),
    *("model.name", "model.weights", "model.pooling", "training.fine_tuning.cut"),
)


def waits(cells: Mapping[str, Mapping[str, Any]], trainings: Mapping[str, Hashable]) -> dict[str, str | None]:
    """Let cells wait for what they share: for the first of the same training, else of the same features.

    Args:
        cells: all parameters of each cell, by name.
        trainings: equal for cells whose training is the same.

    Returns:
        for each cell the one that it waits for, or None; in the order in which they are to start: first those that
        wait for none, and of these first those that others wait for.
    """
    found: dict[str, str | None] = {}
    first: dict[Hashable, str] = {}
    # Where the backbone is fine-tuned more features are kept, so that the others find theirs among them.
    for name in sorted(cells, key=lambda name: not fine_tunes(cells[name])):
        features = _features(cells[name])
        shared = [("training", trainings[name]), *([("features", features)] if features else [])]
        firsts = [first.setdefault(key, name) for key in shared]
        found[name] = next((other for other in firsts if other != name), None)

    def depth(name: str) -> int:
        before = found[name]
        return 0 if before is None else 1 + depth(before)

    awaited = set(found.values())
    return {name: found[name] for name in sorted(cells, key=lambda name: (depth(name), name not in awaited))}


def forget_others(trainings: Collection[Path]) -> None:
    """Remove the checkpoints of trainings that no cell goes back to.

    Args:
        trainings: folders of those that are kept, all in one folder.
    """
    for parent in {folder.parent for folder in trainings}:
        for folder in parent.glob("*"):
            if folder not in trainings:
                shutil.rmtree(folder, ignore_errors=True)


def _features(parameters: Mapping[str, Any]) -> str | None:
    """What decides the features of a frozen backbone; None where there is none."""
    flat = flatten(parameters)
    if not is_pretrained(flat["model.name"], flat["model.weights"]):
        return None
    counted = FEATURES if flat["augmentation.views"] == 0 else (*FEATURES, "augmentation")
    return json_digest({name: value for name, value in flat.items() if is_below(name, counted)})
