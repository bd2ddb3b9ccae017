"""Scaling of grey values of more than 8 bits to 8 bits.

Values of 16 bits or less go through histograms and lookup tables of their possible values, which are small. Arithmetic
on a whole image of 100 megapixels would need several GiB.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused

ROBUST_PERCENTILES = (0.5, 99.5)

_N_ROWS_AT_ONCE = 256


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of any type and range to uint8 so that their ``ROBUST_PERCENTILES`` become 0 and 255.

    Values that are not finite are ignored and become 0.

    Raises:
        ImageRefused: ``empty``: all finite values are equal, or there are none.

    Example:
        >>> stretch(np.array([100, 200, 300]))
        array([  0, 128, 255], dtype=uint8)
    """
    if values.ndim == 2 and values.dtype.kind in "iu" and values.itemsize <= 2:
        return look_up(values, stretch_table(possible_values(values.dtype), histogram(values)))
    finite = np.isfinite(values)
    known = values[finite]
    low, high = np.percentile(known, ROBUST_PERCENTILES, overwrite_input=True) if len(known) else (0, 0)
    low, high = _limits(low, high, known)
    del known
    levels = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _N_ROWS_AT_ONCE):
        rows = slice(start, start + _N_ROWS_AT_ONCE)
        levels[rows] = _scale(np.where(finite[rows], values[rows], low), low, high)
    return levels


def stretch_table(values: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the grey levels that ``stretch`` gives to values, of which an image has ``counts`` each."""
    found = np.flatnonzero(counts)
    ascending = found[np.argsort(values[found], kind="stable")]
    known, last_ranks = values[ascending], np.cumsum(counts[ascending])
    low, high = (_percentile(known, last_ranks, percentile) for percentile in ROBUST_PERCENTILES)
    return _scale(values, *_limits(low, high, known))


def possible_values(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return all values of an integer type of 8 or 16 bits, in the order of ``histogram`` and ``look_up``.

    Example:
        >>> possible_values(np.dtype("int8"))[[0, 1, 127, 128, 255]]
        array([   0,    1,  127, -128,   -1], dtype=int8)
    """
    bits = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << 8 * bits.itemsize, dtype=bits).view(dtype.newbyteorder("="))


def histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """Count each of the ``possible_values`` in an image of 8 or 16 bits, [height, width]."""
    import cv2

    n_possible = 1 << 8 * values.itemsize
    counts = cv2.calcHist([_bits(values)], [0], None, [n_possible], [0, n_possible])
    return np.asarray(counts.ravel(), dtype=np.int64)


def look_up(values: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the values of an image of 8 or 16 bits, [height, width], by a table of all ``possible_values``."""
    import cv2

    return np.asarray(cv2.LUT(_bits(values), table), dtype=np.uint8)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as unsigned integers of the same bits."""
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return native.view(f"u{values.itemsize}")


def _percentile(known: NDArray[Any], last_ranks: NDArray[np.int64], percentile: float) -> float:
    """Compute what ``np.percentile`` does from ascending values and the rank of the last pixel of each."""
    if not len(known):
        return 0.0
    rank = percentile / 100 * (last_ranks[-1] - 1)
    below, above = known[np.searchsorted(last_ranks, [np.floor(rank), np.ceil(rank)], side="right")].astype(np.float64)
    return float(below + (above - below) * (rank - np.floor(rank)))


def _limits(low: float, high: float, known: NDArray[Any]) -> tuple[float, float]:
    """Check the limits of a scale; if they are equal, return those of all known values."""
    if not len(known):
        raise ImageRefused("empty", "no pixel has a finite value")
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        raise ImageRefused("empty", f"every pixel is {low:g}")
    return low, high


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(levels.clip(0, 255)), dtype=np.uint8)
