"""A source in the layout ``pixel_table``: a compressed table with patients, one with a label that has no name."""

import numpy as np
import pandas as pd

N_ROWS = 8
SIDE = 16


def pixels(n):
    return np.random.default_rng(0).integers(0, 256, (n, SIDE**2))


def table(labels, **columns):
    """Return a table of different images with these labels, and other columns."""
    images = pd.DataFrame(pixels(len(labels)), columns=[f"pixel{number + 1}" for number in range(SIDE**2)])
    return pd.concat([pd.DataFrame({"label": labels, **columns}, dtype="object"), images], axis=1)


def write(folder):
    folder.mkdir(parents=True)
    images = table([0, 1, 1, 0, 7, 0, 1, 0], patient=[1, 1, 2, 3, 3, 4, 5, 6])
    images.to_csv(folder / "chests.csv.gz", index=False)
    return folder, {"label": "label", "labels": ["well", "ill"], "patient_id": "patient"}
