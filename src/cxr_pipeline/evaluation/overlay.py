"""Heat maps laid over images."""

import numpy as np
from numpy.typing import NDArray

_STRONGEST = 0.6


def overlay(image: NDArray[np.uint8], heatmap: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Lay a map over an image, in the colours of viridis, which colour-blind readers can follow.

    Where the map is 0 the image shows as it is, where it is 1 the colour makes up six tenths.

    Args:
        image: grey image [S, S].
        heatmap: map [S, S], 0..1.

    Returns:
        Red, green and blue, [S, S, 3].
    """
    from matplotlib import colormaps

    share = _STRONGEST * np.asarray(heatmap, dtype=np.float64)[..., np.newaxis]
    colors = 255 * colormaps["viridis"](np.asarray(heatmap, dtype=np.float64))[..., :3]
    mixed: NDArray[np.float64] = (1 - share) * image[..., np.newaxis] + share * colors
    return np.rint(mixed).astype(np.uint8)
