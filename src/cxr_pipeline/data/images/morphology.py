"""Operations on a prepared film, run as a list of steps from the configuration."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Film = NDArray[np.uint8]

_SHAPES = {"ellipse": cv2.MORPH_ELLIPSE, "rectangle": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS}


def apply_steps(film: Film, steps: Sequence[Mapping[str, object]]) -> Film:
    """Run steps in order.

    Args:
        film: uint8 [height, width].
        steps: each names its ``operation``, the name of a function of this module; the other entries are
            that function's arguments.

    Returns:
        uint8 [height, width]; the film itself where there are no steps.

    Raises:
        ValueError: there is no such operation.

    Example:
        >>> steps = [{"operation": "top_hat", "shape": "ellipse", "size": 9}]
        >>> apply_steps(np.zeros((32, 32), np.uint8), steps).max()
        np.uint8(0)
    """
    for step in steps:
        arguments = dict(step)
        operation = str(arguments.pop("operation", None))
        if operation not in _OPERATIONS:
            raise ValueError(f"operation must be one of {', '.join(_OPERATIONS)}. Received: operation={operation}")
        film = _OPERATIONS[operation](film, **arguments)
    return film


def opening(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Remove what is bright and smaller than the structuring element; never brightens a pixel."""
    element = _element(shape, size)
    return _dilate(_erode(film, element), element)


def closing(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Fill what is dark and smaller than the structuring element; never darkens a pixel."""
    element = _element(shape, size)
    return _erode(_dilate(film, element), element)


def top_hat(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Keep only what ``opening`` removes: small bright detail, on black."""
    return np.asarray(cv2.subtract(film, opening(film, size=size, shape=shape)), dtype=np.uint8)


def black_hat(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Keep only what ``closing`` fills: small dark detail, white on black."""
    return np.asarray(cv2.subtract(closing(film, size=size, shape=shape), film), dtype=np.uint8)


def gradient(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Difference between the brightest and the darkest pixel under the structuring element: edges."""
    element = _element(shape, size)
    return np.asarray(cv2.subtract(_dilate(film, element), _erode(film, element)), dtype=np.uint8)


def contrast(film: Film, *, size: int, shape: str = "ellipse") -> Film:
    """Raise local contrast: the film plus its top-hat minus its black-hat, held within 0 to 255."""
    # 3 film - opening - closing, which saturates once and not twice.
    enhanced = 3 * film.astype(np.int16) - opening(film, size=size, shape=shape) - closing(film, size=size, shape=shape)
    return enhanced.clip(0, 255).astype(np.uint8)


def clahe(film: Film, *, clip_limit: float = 2.0, tiles: int = 8) -> Film:
    """Equalise the histogram tile by tile, with limited contrast.

    Reference: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.

    Args:
        film: uint8 [height, width].
        clip_limit: largest count of a histogram bin, as a multiple of the mean count.
        tiles: number of tiles along each side.
    """
    return np.asarray(cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(film), dtype=np.uint8)


def denoise(film: Film, *, size: int) -> Film:
    """Replace each pixel by the median of the square of odd side ``size`` around it."""
    return np.asarray(cv2.medianBlur(film, size), dtype=np.uint8)


_OPERATIONS: dict[str, Callable[..., Film]] = {
    function.__name__: function
    for function in (top_hat, black_hat, opening, closing, gradient, contrast, clahe, denoise)
}


def _element(shape: str, size: int) -> Film:
    return np.asarray(cv2.getStructuringElement(_SHAPES[shape], (size, size)), dtype=np.uint8)


def _erode(film: Film, element: Film) -> Film:
    return np.asarray(cv2.erode(film, element), dtype=np.uint8)


def _dilate(film: Film, element: Film) -> Film:
    """Dilate with the reflected element.

    OpenCV does not reflect it, so that its openings with an element of even size shift the film.
    """
    anchor = (element.shape[0] - 1) // 2
    return np.asarray(cv2.dilate(film, cv2.flip(element, -1), anchor=(anchor, anchor)), dtype=np.uint8)
