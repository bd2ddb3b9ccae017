"""Anatomy of a simulated patient, which all radiographs of that patient share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Anatomy:
    """Chest of one patient. Lengths are fractions of the side of a radiograph.

    Args:
        apex, height: y of the lung apices, and height of the lungs in full inspiration.
        widths: distance from the midline to the chest wall, right and left.
        domes: height of the diaphragm above the costophrenic angle, right and left.
        heart_ratio, heart_tilt: cardiothoracic ratio, and horizontal shift of the heart per unit of height.
        rib_spacing, rib_slope: distance between ribs and their fall from spine to chest wall, relative to ``height``.
        bone, markings: contrast of the bones and of the lung vessels, 1 on average.
        torso, girth: half the width of the trunk, and the thickness of its soft tissue, 1 on average.
        breast, breast_y: size of the breast shadows, 0 for none, and y of their centres.
        vessels: [2, radius, angle], noise that is 0 along the vessels of the right and the left lung.
    """

    apex: float
    height: float
    widths: tuple[float, float]
    domes: tuple[float, float]
    heart_ratio: float
    heart_tilt: float
    rib_spacing: float
    rib_slope: float
    bone: float
    markings: float
    torso: float
    girth: float
    breast: float
    breast_y: float
    vessels: NDArray[np.float64]


def draw_anatomy(rng: np.random.Generator, *, sex: str) -> Anatomy:
    """Draw the anatomy of a patient at random. The sex, ``"F"`` or ``"M"``, affects width and breast shadows."""
    between = rng.uniform
    female = sex == "F"
    width = between(0.30, 0.385) - 0.01 * female
    dome = between(0.055, 0.115)
    return Anatomy(
        apex=between(-0.385, -0.335),
        height=between(0.57, 0.68),
        widths=(width * between(0.97, 1.04), width * between(0.96, 1.03)),
        # The liver raises the right half of the diaphragm.
        domes=(dome * between(1.0, 1.35), dome * between(0.85, 1.2)),
        heart_ratio=between(0.38, 0.49),
        heart_tilt=between(0.15, 0.45),
        rib_spacing=between(0.092, 0.108),
        rib_slope=between(0.10, 0.17),
        bone=between(0.8, 1.15),
        markings=between(0.7, 1.1),
        torso=width + between(0.05, 0.11),
        girth=between(0.85, 1.25),
        breast=between(0.35, 1.0) if female else max(0.0, between(-0.3, 0.35)),
        breast_y=between(0.04, 0.20),
        vessels=rng.standard_normal((2, 12, 48)),
    )
