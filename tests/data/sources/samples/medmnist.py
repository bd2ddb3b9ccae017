"""A source in the layout ``medmnist``: three splits of grey images, one with a label that has no name."""

from pathlib import Path

import numpy as np

N_ROWS = 10


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for split, labels in {"train": [0, 1, 0, 1, 2], "val": [1, 0, 0], "test": [1, 0]}.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    np.savez_compressed(folder / "chests.npz", **arrays)
    return folder / "chests.npz", {"labels": ["well", "ill"]}
