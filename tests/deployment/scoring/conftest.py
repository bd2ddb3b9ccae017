"""Fixtures of the tests of scoring."""

import os

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.deployment.scoring import score_folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new"


@pytest.fixture
def draw(folder):
    """Write an image of two halves, whose mean is ``grey``."""

    def draw_image(name, grey=51, *, below=folder):
        path = below / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((64, 64), grey - 10, np.uint8)
        image[:, 32:] = grey + 10
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        return path

    return draw_image


@pytest.fixture
def score(tmp_path):
    """Score a folder into one table."""

    def score_images(classifier, folder, **options):
        settings = {"scored_by": "models:/cxr-effusion/1", "batch_size": 2, **options}
        images, parts = find_images(str(folder), key="effusion.scoring.folder"), tmp_path / "predictions.parts"
        return pd.concat(score_folder(classifier, images, parts=parts, **settings), ignore_index=True)

    return score_images
