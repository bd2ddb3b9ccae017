"""A source in the layout ``pixel_table``: a compressed table with patients, one with a label that has no name."""

from pathlib import Path

import numpy as np
import pandas as pd

N_ROWS = 8
SIDE = 16


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (N_ROWS, SIDE**2))
    table = pd.DataFrame(pixels, columns=[f"pixel{number}" for number in range(SIDE**2)])
    table.insert(0, "label", [0, 1, 1, 0, 7, 0, 1, 0])
    table.insert(1, "patient", [1, 1, 2, 3, 3, 4, 5, 6])
    table.to_csv(folder / "chests.csv.gz", index=False)
    return folder, {"label": "label", "labels": ["well", "ill"], "patient_id": "patient"}
