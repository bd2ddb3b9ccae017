"""Grey levels of more than 8 bits, brought to 8."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused

ROBUST_PERCENTILES = (0.5, 99.5)


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring grey values of any type to uint8, so that ``ROBUST_PERCENTILES`` become 0 and 255.

    Args:
        values: any shape and range. What is not finite decides nothing and becomes 0.

    Raises:
        ImageRefused: ``empty``: all finite values are equal, or there is none.
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
