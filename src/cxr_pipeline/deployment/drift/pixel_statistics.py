"""Pixel statistics that differ between scanners, exposures and positions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STATISTICS = {
    "brightness": "mean grey",
    "contrast": "standard deviation of the greys",
    "shadows": "5th percentile of the greys",
    "midtones": "median of the greys",
    "highlights": "95th percentile of the greys",
    "sharpness": "logarithm of the mean gradient",
    "noise": "standard deviation of the noise, estimated, in grey levels",
    "black_border": "share of rows and columns at the edges that are black",
    "clipped": "share of pixels that are white",
    "centre_across": "centre of the greys from left to right, 0 to 1",
    "centre_down": "centre of the greys from top to bottom, 0 to 1",
}
BLACK, WHITE = 8, 255
# Immerkaer's kernel: responds to noise, but not to linear gradients.
_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def image_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the statistics of prepared images, uint8 [n, size, size] with a size of 3 or more.

    Returns:
        float32 [n, 11], in the order of ``STATISTICS``; finite even for an image of a single grey level.

    References:
        Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64, 1996.

    Example:
        >>> grey = np.full((1, 8, 8), 90, np.uint8)
        >>> dict(zip(STATISTICS, image_statistics(grey)[0].tolist()))["brightness"]
        90.0
    """
    rows = [_statistics_of(image) for image in images]
    return np.array(rows, np.float32).reshape(len(rows), len(STATISTICS))


def _statistics_of(image: NDArray[np.uint8]) -> tuple[float, ...]:
    grey = image.astype(np.float32)
    shadows, midtones, highlights = np.percentile(image, (5, 50, 95))
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    residual = cv2.filter2D(grey, cv2.CV_32F, _IMMERKAER)[1:-1, 1:-1]
    return (
        float(grey.mean()),
        float(grey.std()),
        float(shadows),
        float(midtones),
        float(highlights),
        float(np.log1p(np.hypot(across, down).mean())),
        float(np.sqrt(np.pi / 2) / 6 * np.abs(residual).mean()),
        (_black_edges(image.max(axis=0)) + _black_edges(image.max(axis=1))) / 2,
        float((image == WHITE).mean()),
        _centre(grey.sum(axis=0)),
        _centre(grey.sum(axis=1)),
    )


def _black_edges(brightest: NDArray[np.uint8]) -> float:
    """Return the share of lines before the first and after the last line that is not black."""
    bright = np.flatnonzero(brightest > BLACK)
    return 1.0 if not len(bright) else 1 - (bright[-1] - bright[0] + 1) / len(brightest)


def _centre(weights: NDArray[np.float32]) -> float:
    """Return the weighted mean position, 0 to 1; 0.5 where all weights are 0."""
    total = float(weights.sum(dtype=np.float64))
    positions = (np.arange(len(weights)) + 0.5) / len(weights)
    return float((weights * positions).sum(dtype=np.float64) / total) if total else 0.5
