"""A tiny source of each layout, for the common checks over all layouts.

A module here has the name of its layout. It has ``write(folder) -> (path, options)``, which writes at least six images
with at least two labels (and, if the layout has a table, a row whose image is missing) and returns the source's
``path`` and options; and ``N_ROWS``, the number of rows written. ``DRAWS = True`` marks a layout that generates its
images, so that an empty folder is not an error.
"""

from pathlib import Path

import cv2
import numpy as np


def draw_image(path: Path, number: int) -> None:
    """Write an image whose pixels differ for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 32), dtype=np.uint8)
    _, content = cv2.imencode(path.suffix, pixels)
    path.write_bytes(content.tobytes())
