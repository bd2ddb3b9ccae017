"""A tiny source of each layout, for the laws that every layout must keep.

A module here is named like its layout. It has ``write(folder) -> (path, options)``, which writes at least six images
with at least two labels (and, where the layout has a table, a row whose image is missing) and returns where the source's
``path`` points and its options; and ``N_ROWS``, the number of rows written. ``DRAWS = True`` says that the layout makes
its images itself, so that an empty folder is no fault.
"""

from pathlib import Path

import cv2
import numpy as np


def draw_image(path: Path, number: int) -> None:
    """Write an image whose pixels no other number gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 32), dtype=np.uint8)
    _, content = cv2.imencode(path.suffix, pixels)
    path.write_bytes(content.tobytes())
