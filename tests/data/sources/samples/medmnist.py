"""A source in the layout ``medmnist``: three splits of grey images, one with a label that has no name."""

import numpy as np

N_ROWS = 10
LABELS = {"train": [0, 1, 0, 1, 2], "val": [1, 0, 0], "test": [1, 0]}


def draw(split, *size):
    """Return the images of a split, 28 x 28 pixels unless another size or colour is given."""
    shape = (len(LABELS[split]), *(size or (28, 28)))
    return np.random.default_rng(len(split)).integers(0, 256, shape, dtype=np.uint8)


def write_splits(folder, **changes):
    """Write the splits; ``changes`` replaces arrays, or leaves those out that are None."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{split}_images": draw(split) for split in LABELS}
    arrays |= {f"{split}_labels": np.array(labels, np.uint8)[:, None] for split, labels in LABELS.items()}
    kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(folder / "images.npz", **kept)
    return folder / "images.npz"


def write(folder):
    return write_splits(folder), {"labels": ["well", "ill"]}
