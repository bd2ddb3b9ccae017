"""Images of noise, for benchmarks that do not depend on the content."""

import hashlib
from collections.abc import Sequence

import numpy as np


class NoiseImages:
    """Images of noise, in memory.

    Args:
        n: how many.
        size: side in pixels.
    """

    digest = "noise"

    def __init__(self, n: int, size: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (n, size, size), np.uint8)
        self.images = {hashlib.sha256(image.tobytes()).hexdigest(): image for image in images}

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        """Images [n, S, S], uint8."""
        return np.stack([self.images[sha256] for sha256 in sha256s])
