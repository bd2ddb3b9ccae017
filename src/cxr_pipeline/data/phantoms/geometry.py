"""Curves in the frame of the image, and how they reach its pixels.

The frame runs from -0.5 to 0.5 in both directions, x to the viewer's right, y down, whatever the image's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.uint8]
Layer = NDArray[np.float32]

_SUBPIXEL_BITS = 4
_QUARTER_TURN = np.array([-1.0, 1.0])


@cache
def _catmull_rom(steps: int) -> Points:
    t = np.arange(steps) / steps
    return 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )


@cache
def _neighbours(knots: int) -> NDArray[np.intp]:
    return (np.arange(knots)[:, None] + np.arange(-1, 3)) % knots


def closed_spline(knots: Points, *, x: float = 0.0, steps: int = 6) -> Points:
    """Closed Catmull-Rom curve (Catmull and Rom, 1974) through the knots.

    Args:
        knots: float64 [k, 2], at least three of them.
        x: shifts the curve sideways.
        steps: points from one knot to the next.

    Returns:
        float64 [k * steps, 2].
    """
    curve: Points = _catmull_rom(steps) @ knots[_neighbours(len(knots))]
    curve[..., 0] += x
    return curve.reshape(-1, 2)


def ribbons(curves: Points, widths: Points | float) -> Points:
    """Outlines of bands of a given width along curves.

    Args:
        curves: float64 [n, p, 2], p at least 2.
        widths: width of the band, one for all or broadcastable to [n, p].

    Returns:
        float64 [n, 2 * p, 2], the upper border followed by the lower one backwards.
    """
    step = curves[:, 1:] - curves[:, :-1]
    along = np.concatenate([step[:, :1], step[:, 1:] + step[:, :-1], step[:, -1:]], axis=1)
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)
    across = along[..., ::-1] * (np.asarray(widths) / 2 / length)[..., None] * _QUARTER_TURN
    return np.concatenate([curves + across, (curves - across)[:, ::-1]], axis=1)


@cache
def unit_circle(points: int) -> Points:
    """Points at equal angles around 0, float64 [points, 2]."""
    angle = np.arange(points) * (2 * np.pi / points)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(centre: Points, radii: tuple[float, float], *, points: int = 24) -> Points:
    """Outline of an ellipse with upright axes, float64 [points, 2]."""
    return unit_circle(points) * radii + centre


@dataclass(frozen=True)
class Pose:
    """Where the patient stands: an affine map from the chest's frame to the image, 0 to 1 from edge to edge.

    Args:
        matrix: float64 [2, 3].
    """

    matrix: Points

    @classmethod
    def of(cls, *, angle: float, zoom: float, shift: tuple[float, float]) -> "Pose":
        """Rotation by ``angle`` (radians), magnification by ``zoom``, then ``shift`` in sides of the image."""
        cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
        return cls(np.array([[cosine, -sine, 0.5 + shift[0]], [sine, cosine, 0.5 + shift[1]]]))

    def place(self, points: Points) -> Points:
        """Points of the chest on the image: float64 [..., 2] in, [..., 2] out, 0 to 1 inside the image."""
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
        """Draw curves (each float64 [p, 2]) as lines ``width`` sides of the image wide.

        A line thinner than a pixel is drawn one pixel wide and fainter.
        """
        pixels = width * mask.shape[0]
        thickness = max(1, round(pixels))
        faint = round(value * min(1.0, pixels / thickness))
        shapes = self._pixels(curves, mask.shape[0])
        cv2.polylines(mask, shapes, closed, faint, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def soften(mask: Mask, sigma: float) -> Layer:
    """Blur a mask; ``sigma`` in sides of the image, uint8 0 to 255 in, float32 0 to 1 out."""
    blurred = cv2.GaussianBlur(mask, (0, 0), max(sigma * mask.shape[0], 0.3))
    return np.asarray(np.multiply(blurred, np.float32(1 / 255), dtype=np.float32))


def grain(rng: np.random.Generator, side: int) -> Layer:
    """Normal noise of mean 0 and standard deviation 1 in 256 steps, float32 [side, side].

    One random byte a value, through the quantiles: a tenth of the time of ``standard_normal``.
    """
    words = rng.integers(0, 2**64, size=-(-side * side // 8), dtype=np.uint64)
    steps = words.view(np.uint8)[: side * side].reshape(side, side)
    return np.asarray(cv2.LUT(steps, _quantiles()), dtype=np.float32)


@cache
def _quantiles() -> Layer:
    quantiles = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)])
    return np.asarray(quantiles / quantiles.std(), dtype=np.float32)


def enlarge(layer: Layer, side: int) -> Layer:
    """Bring a coarse layer to [side, side]."""
    return np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
