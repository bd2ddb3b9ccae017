"""Heat maps blended with images."""

import numpy as np
from numpy.typing import NDArray

_MAX_WEIGHT = 0.6


def overlay(image: NDArray[np.uint8], heatmap: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Blend a heat map with an image, in the colours of viridis, which is suitable for colour-blind readers.

    A grey image [S, S] and a map in [0, 1] give an RGB image, uint8 [S, S, 3]. The image is unchanged where the map is
    0; where it is 1, the colour has a weight of 0.6.
    """
    from matplotlib import colormaps

    share = _MAX_WEIGHT * np.asarray(heatmap, dtype=np.float64)[..., np.newaxis]
    colors = 255 * colormaps["viridis"](np.asarray(heatmap, dtype=np.float64))[..., :3]
    mixed: NDArray[np.float64] = (1 - share) * image[..., np.newaxis] + share * colors
    return np.rint(mixed).astype(np.uint8)
