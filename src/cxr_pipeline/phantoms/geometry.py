"""Curves in the frame of the film, and how they reach its pixels.

The frame runs from -0.5 to 0.5 in both directions, x to the viewer's right, y down, whatever the film's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.uint8]
Layer = NDArray[np.float32]

_SUBPIXEL_BITS = 4


@cache
def _catmull_rom(steps: int) -> Points:
    t = np.arange(steps) / steps
    return 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )


@cache
def _neighbours(knots: int) -> NDArray[np.intp]:
    return (np.arange(knots)[:, None] + np.arange(-1, 3)) % knots


def closed_spline(knots: Points, *, steps: int = 6) -> Points:
    """Closed Catmull-Rom curve (Catmull and Rom, 1974) through the knots.

    Args:
        knots: float64 [k, 2], at least three of them.
        steps: points from one knot to the next.

    Returns:
        float64 [k * steps, 2].
    """
    curve: Points = _catmull_rom(steps) @ knots[_neighbours(len(knots))]
    return curve.reshape(-1, 2)


def ribbons(curves: Points, widths: Points | float) -> Points:
    """Outlines of bands of a given width along curves.

    Args:
        curves: float64 [n, p, 2], p at least 2.
        widths: width of the band, one for all or broadcastable to [n, p].

    Returns:
        float64 [n, 2 * p, 2], the upper border followed by the lower one backwards.
    """
    along = np.gradient(curves, axis=1)
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)
    half = np.broadcast_to(np.asarray(widths) / 2, length.shape) / length
    across = np.stack([-along[..., 1] * half, along[..., 0] * half], axis=-1)
    return np.concatenate([curves + across, (curves - across)[:, ::-1]], axis=1)


def ellipse(centre: Sequence[float], radii: Sequence[float], *, points: int = 24) -> Points:
    """Outline of an ellipse with upright axes, float64 [points, 2]."""
    angle = np.arange(points) * (2 * np.pi / points)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Pose:
    """Where the patient stands: an affine map from the chest's frame to the film, 0 to 1 from edge to edge.

    Args:
        matrix: float64 [2, 3].
    """

    matrix: Points

    @classmethod
    def of(cls, *, angle: float, zoom: float, shift: tuple[float, float]) -> "Pose":
        """Rotation by ``angle`` (radians), magnification by ``zoom``, then ``shift`` in sides of the film."""
        cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
        return cls(np.array([[cosine, -sine, 0.5 + shift[0]], [sine, cosine, 0.5 + shift[1]]]))

    def place(self, points: Points) -> Points:
        """Points of the chest on the film: float64 [..., 2] in, [..., 2] out, 0 to 1 inside the film."""
        placed: Points = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return placed

    def _pixels(self, curves: Sequence[Points] | Points, side: int) -> list[NDArray[np.int32]]:
        together = curves if isinstance(curves, np.ndarray) else np.concatenate(curves)
        placed = self.place(together) * (side * 2**_SUBPIXEL_BITS) - 2 ** (_SUBPIXEL_BITS - 1)
        pixels = np.rint(placed).astype(np.int32)
        if pixels.ndim == 3:
            return list(pixels)
        ends = np.cumsum([len(curve) for curve in curves])
        return [pixels[end - len(curve) : end] for curve, end in zip(curves, ends, strict=True)]

    def fill(self, mask: Mask, outlines: Sequence[Points] | Points, value: int) -> None:
        """Fill outlines (each float64 [p, 2]) into ``mask`` with smooth edges; outlines must not overlap."""
        cv2.fillPoly(mask, self._pixels(outlines, mask.shape[0]), value, cv2.LINE_AA, _SUBPIXEL_BITS)

    def trace(
        self, mask: Mask, curves: Sequence[Points] | Points, width: float, value: int, *, closed: bool = False
    ) -> None:
        """Draw curves (each float64 [p, 2]) as lines ``width`` sides of the film wide.

        A line thinner than a pixel is drawn one pixel wide and fainter.
        """
        pixels = width * mask.shape[0]
        thickness = max(1, round(pixels))
        faint = round(value * min(1.0, pixels / thickness))
        shapes = self._pixels(curves, mask.shape[0])
        cv2.polylines(mask, shapes, closed, faint, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def soften(mask: Mask, sigma: float) -> Layer:
    """Blur a mask; ``sigma`` in sides of the film, uint8 0 to 255 in, float32 0 to 1 out."""
    blurred = cv2.GaussianBlur(mask, (0, 0), max(sigma * mask.shape[0], 0.3))
    return np.multiply(blurred, np.float32(1 / 255), dtype=np.float32)


def enlarge(layer: Layer, side: int) -> Layer:
    """Bring a coarse layer to [side, side]."""
    return np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
