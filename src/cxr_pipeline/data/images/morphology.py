"""Operations on a prepared image, run as a list of steps from the configuration."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_SHAPES = {"ellipse": cv2.MORPH_ELLIPSE, "rectangle": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS}


def apply_steps(image: Image, steps: Sequence[Mapping[str, object]]) -> Image:
    """Run steps in order.

    Args:
        image: uint8 [height, width].
        steps: each names its ``operation``, the name of a function of this module; the other entries are
            that function's arguments.

    Returns:
        uint8 [height, width]; the image itself where there are no steps.

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
        image = _OPERATIONS[operation](image, **arguments)
    return image


def opening(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Remove what is bright and smaller than the structuring element; never brightens a pixel."""
    element = _element(shape, size)
    return _dilate(_erode(image, element), element)


def closing(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Fill what is dark and smaller than the structuring element; never darkens a pixel."""
    element = _element(shape, size)
    return _erode(_dilate(image, element), element)


def top_hat(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Keep only what ``opening`` removes: small bright detail, on black."""
    return np.asarray(cv2.subtract(image, opening(image, size=size, shape=shape)), dtype=np.uint8)


def black_hat(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Keep only what ``closing`` fills: small dark detail, white on black."""
    return np.asarray(cv2.subtract(closing(image, size=size, shape=shape), image), dtype=np.uint8)


def gradient(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Difference between the brightest and the darkest pixel under the structuring element: edges."""
    element = _element(shape, size)
    return np.asarray(cv2.subtract(_dilate(image, element), _erode(image, element)), dtype=np.uint8)


def contrast(image: Image, *, size: int, shape: str = "ellipse") -> Image:
    """Raise local contrast: the image plus its top-hat minus its black-hat, held within 0 to 255."""
    # 3 image - opening - closing, which saturates once and not twice.
    enhanced = (
        3 * image.astype(np.int16) - opening(image, size=size, shape=shape) - closing(image, size=size, shape=shape)
    )
    return enhanced.clip(0, 255).astype(np.uint8)


def clahe(image: Image, *, clip_limit: float = 2.0, tiles: int = 8) -> Image:
    """Equalise the histogram tile by tile, with limited contrast.

    Reference: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.

    Args:
        image: uint8 [height, width].
        clip_limit: largest count of a histogram bin, as a multiple of the mean count.
        tiles: number of tiles along each side.
    """
    return np.asarray(cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(image), dtype=np.uint8)


def denoise(image: Image, *, size: int) -> Image:
    """Replace each pixel by the median of the square of odd side ``size`` around it."""
    return np.asarray(cv2.medianBlur(image, size), dtype=np.uint8)


_OPERATIONS: dict[str, Callable[..., Image]] = {
    function.__name__: function
    for function in (top_hat, black_hat, opening, closing, gradient, contrast, clahe, denoise)
}


def _element(shape: str, size: int) -> Image:
    return np.asarray(cv2.getStructuringElement(_SHAPES[shape], (size, size)), dtype=np.uint8)


def _erode(image: Image, element: Image) -> Image:
    return np.asarray(cv2.erode(image, element), dtype=np.uint8)


def _dilate(image: Image, element: Image) -> Image:
    """Dilate with the reflected element.

    OpenCV does not reflect it, so that its openings with an element of even size shift the image.
    """
    anchor = (element.shape[0] - 1) // 2
    return np.asarray(cv2.dilate(image, cv2.flip(element, -1), anchor=(anchor, anchor)), dtype=np.uint8)
