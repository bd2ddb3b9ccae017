"""A tiny source of each layout for the common checks over all layouts, and what several tests of sources share.

A module here has the name of its layout. It has ``write(folder) -> (path, options)``, which writes at least six images
with at least two labels (and, if the layout has a table, a row whose image is missing) and returns the source's
``path`` and options; and ``N_ROWS``, the number of rows written. ``DRAWS = True`` marks a layout that generates its
images, so that an empty folder is not an error.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.sources import label_table
from cxr_pipeline.data.sources.label_tables import Columns


def draw_image(path, number):
    """Write an image whose pixels differ for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 32), dtype=np.uint8)
    _, content = cv2.imencode(path.suffix, pixels)
    path.write_bytes(content.tobytes())


def write_files(folder, *paths):
    """Write files below a folder, each with its path as content, and return the folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def list_table(folder, table, *paths, layout=label_table, columns=None, **options):
    """Write files and a label table with the columns image and label, or others, and list the images of the table."""
    (write_files(folder, *paths) / "labels.csv").write_text(table)
    columns = Columns(**{"image": "image", "labels": "label", **(columns or {})})
    return layout.read(folder, table="labels.csv", columns=columns, **options)


def texts(values):
    """Return the values of a column, with None for null."""
    return [None if pd.isna(value) else value for value in values]


def refusal(reader, path):
    """Return the refusal that reading an image raises."""
    with pytest.raises(ImageRefused) as raised:
        reader.read(path)
    return raised.value


def unpacked_images(reader):
    """Return all images of an unpacked container."""
    n, shape, _ = json.loads((reader.folder / "description.json").read_text()).values()
    return ArrayStore(reader.folder, np.uint8, shape).read([str(row) for row in range(n)])
