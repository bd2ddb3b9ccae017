"""Films of noise, for benchmarks that do not look at what is on them."""

import hashlib
from collections.abc import Sequence

import numpy as np


class NoiseFilms:
    """Films of noise, in memory.

    Args:
        n: how many.
        size: side in pixels.
    """

    digest = "noise"

    def __init__(self, n: int, size: int) -> None:
        films = np.random.default_rng(0).integers(0, 256, (n, size, size), np.uint8)
        self.films = {hashlib.sha256(film.tobytes()).hexdigest(): film for film in films}

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        """Films [n, S, S], uint8."""
        return np.stack([self.films[sha256] for sha256 in sha256s])
