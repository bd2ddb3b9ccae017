"""Morphological operations, local contrast and noise reduction on prepared images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import NDArray

Image = NDArray[np.uint8]
# The configuration checks these bounds.
Size = Annotated[int, Interval(ge=2, le=255)]
Odd = Literal[3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31]
Shape = Literal["ellipse", "rectangle", "cross"]

_SHAPES = {"ellipse": cv2.MORPH_ELLIPSE, "rectangle": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS}


def apply_steps(image: Image, steps: Sequence[Mapping[str, Any]]) -> Image:
    """Apply a sequence of operations to an image, uint8 [height, width].

    Each step has an ``operation``, the name of a function of this module, and the arguments of that function, such as
    ``{"operation": "top_hat", "size": 9}``. Without steps, the image itself is returned.
    """
    for step in steps:
        arguments = dict(step)
        image = OPERATIONS[arguments.pop("operation")](image, **arguments)
    return image


def opening(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Remove bright details smaller than the structuring element; never brightens a pixel."""
    return _dilate(_erode(image, size, shape), size, shape)


def closing(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Fill dark details smaller than the structuring element; never darkens a pixel."""
    return _erode(_dilate(image, size, shape), size, shape)


def top_hat(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Keep only what ``opening`` removes: small bright details on black."""
    return image - opening(image, size=size, shape=shape)


def black_hat(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Keep only what ``closing`` fills: small dark details, shown white on black."""
    return closing(image, size=size, shape=shape) - image


def gradient(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Subtract the minimum from the maximum under the structuring element, which shows edges."""
    return _dilate(image, size, shape) - _erode(image, size, shape)


def contrast(image: Image, *, size: Size, shape: Shape = "ellipse") -> Image:
    """Increase local contrast: the image plus its top-hat minus its black-hat, clipped to 0 to 255."""
    # The sum of the three terms in one step, so that it is clipped once.
    enhanced = 3 * image.astype(np.int16)
    enhanced -= opening(image, size=size, shape=shape)
    enhanced -= closing(image, size=size, shape=shape)
    return enhanced.clip(0, 255).astype(np.uint8)


def clahe(
    image: Image, *, clip_limit: Annotated[float, Gt(0)] = 2.0, tiles: Annotated[int, Interval(ge=1, le=64)] = 8
) -> Image:
    """Equalise the histogram of each of ``tiles`` x ``tiles`` tiles with limited contrast.

    ``clip_limit`` is the maximum count of a histogram bin, as a multiple of the mean count.

    Reference: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    return np.asarray(cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(image), dtype=np.uint8)


def denoise(image: Image, *, size: Odd) -> Image:
    """Replace each pixel by the median of the square of odd side ``size`` around it."""
    return np.asarray(cv2.medianBlur(image, size), dtype=np.uint8)


OPERATIONS: dict[str, Callable[..., Image]] = {
    function.__name__: function
    for function in (top_hat, black_hat, opening, closing, gradient, contrast, clahe, denoise)
}


def _erode(image: Image, size: int, shape: str) -> Image:
    element = cv2.getStructuringElement(_SHAPES[shape], (size, size))
    return np.asarray(cv2.erode(image, element), dtype=np.uint8)


def _dilate(image: Image, size: int, shape: str) -> Image:
    # OpenCV does not reflect the element, so its own openings with an element of even size shift the image.
    element = cv2.flip(cv2.getStructuringElement(_SHAPES[shape], (size, size)), -1)
    anchor = (size - 1) // 2
    return np.asarray(cv2.dilate(image, element, anchor=(anchor, anchor)), dtype=np.uint8)
