"""Images to decode, prepare and enhance."""

import hashlib
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def image():
    """Smooth grey levels from 0 to 255 with no symmetry, 48 x 64 pixels."""
    noise = np.random.default_rng(0).standard_normal((48, 64))
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)


@pytest.fixture(scope="session")
def encode():
    """Write pixels, uint8 or uint16, with Pillow: ``encode(pixels, "PNG")``."""

    def write(pixels, kind, **options):
        content = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(content, kind, **options)
        return content.getvalue()

    return write


@pytest.fixture
def write_images(tmp_path, encode):
    """Write different PNG images and return the path of each by its SHA-256."""

    def write(n_images, *, size=40, seed=0):
        rng = np.random.default_rng(seed)
        folder = tmp_path / f"images-{seed}"
        folder.mkdir(exist_ok=True)
        files = {}
        for number in range(n_images):
            content = encode(rng.integers(0, 256, (size, size + 8), dtype=np.uint8), "PNG")
            path = folder / f"{number:04}.png"
            path.write_bytes(content)
            files[hashlib.sha256(content).hexdigest()] = path
        return files

    return write
