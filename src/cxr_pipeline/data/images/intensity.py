"""Scaling of grey values of more than 8 bits to 8 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused

ROBUST_PERCENTILES = (0.5, 99.5)


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of any type and range to uint8 so that their ``ROBUST_PERCENTILES`` become 0 and 255.

    Values that are not finite are ignored and become 0.

    Raises:
        ImageRefused: ``empty``: all finite values are equal, or there are none.

    Example:
        >>> stretch(np.array([100, 200, 300]))
        array([  0, 128, 255], dtype=uint8)
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise ImageRefused("empty", "no pixel has a finite value")
    known = values[finite]
    low, high = np.percentile(known, ROBUST_PERCENTILES)
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        raise ImageRefused("empty", f"every pixel is {low:g}")
    levels = (np.where(finite, values, low).astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(levels.clip(0, 255)), dtype=np.uint8)
