"""The chest of a simulated patient: anatomy, and attenuation as a sum of soft shapes.

Every shape is a function of the coordinates x (to the viewer's right) and y (down), from -FRAME / 2 to FRAME / 2. The
unit is the side of the radiograph, which shows a part of that frame. x has the shape [1, n] and y [n, 1], so that
what varies in one direction only stays small.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Layer = NDArray[np.float64]

# Wide enough that a radiograph that is zoomed out, shifted and rotated lies inside.
FRAME = 1.2
_MEDIAL = 0.035
_N_RIBS, _RIB_WIDTH = 10, 0.022


def soft_edge(distance: Layer, width: float) -> Layer:
    """Return 1 inside a shape and 0 outside, with a linear transition at the border, where the distance is 0."""
    return np.clip(distance / width + 0.5, 0, 1)


class Anatomy:
    """Chest of one patient, drawn at random, which all radiographs of that patient share.

    The sex, ``"F"`` or ``"M"``, affects width and breast shadows. Lengths are fractions of the side of a radiograph.
    """

    def __init__(self, rng: np.random.Generator, *, sex: str) -> None:
        between = rng.uniform
        female = sex == "F"
        width = between(0.30, 0.385) - 0.01 * female
        dome = between(0.055, 0.115)
        # y of the lung apices, and height of the lungs in full inspiration.
        self.apex, self.height = between(-0.385, -0.335), between(0.57, 0.68)
        # Distance from the midline to the chest wall, right and left.
        self.widths = (width * between(0.97, 1.04), width * between(0.96, 1.03))
        # Height of the diaphragm above the costophrenic angle. The liver raises the right half.
        self.domes = (dome * between(1.0, 1.35), dome * between(0.85, 1.2))
        # Cardiothoracic ratio, and horizontal shift of the heart per unit of height.
        self.heart_ratio, self.heart_tilt = between(0.38, 0.49), between(0.15, 0.45)
        # Distance between ribs and their fall from spine to chest wall, relative to the height.
        self.rib_spacing, self.rib_slope = between(0.092, 0.108), between(0.10, 0.17)
        # Contrast of the bones and of the lung vessels, 1 on average.
        self.bone, self.markings = between(0.8, 1.15), between(0.7, 1.1)
        # Half the width of the trunk, and the thickness of its soft tissue, 1 on average.
        self.torso, self.girth = width + between(0.05, 0.11), between(0.85, 1.25)
        # Size of the breast shadows, 0 for none, and y of their centres.
        self.breast = between(0.35, 1.0) if female else max(0.0, between(-0.3, 0.35))
        self.breast_y = between(0.04, 0.20)
        # Noise that is 0 along the vessels of the right and the left lung, [2, radius, angle].
        self.vessels = rng.standard_normal((2, 12, 48))


@dataclass(frozen=True)
class Lung:
    """One lung, the right one (on the viewer's left) with side -1 or the left one with side 1.

    ``base`` is y of the costophrenic angle, ``lateral`` the distance from the midline to the chest wall, and ``dome``
    the height of the diaphragm above the costophrenic angle.
    """

    side: int
    apex: float
    base: float
    lateral: float
    dome: float
    x: Layer
    y: Layer

    @cached_property
    def v(self) -> Layer:
        """Relative height, 0 at the apex and 1 at the costophrenic angle, [n, 1]."""
        return (self.y - self.apex) / (self.base - self.apex)

    @cached_property
    def u(self) -> Layer:
        """Relative distance from the mediastinum (0) to the chest wall (1), [n, n]."""
        inner, wall = self.borders(self.v)
        return (self.side * self.x - inner) / np.maximum(wall - inner, 1e-3)

    @cached_property
    def diaphragm(self) -> Layer:
        """Vertical position of the diaphragm, which falls off beside the lung, [1, n]."""
        crest, out = 0.42, self.side * self.x
        across = np.clip((out - _MEDIAL) / (self.lateral - _MEDIAL), 0, 1)
        lateral = 1 - np.maximum((across - crest) / (1 - crest), 0) ** 2.4
        medial = 0.4 * np.minimum((across - crest) / crest, 0) ** 2
        beside: Layer = 2 * np.maximum(out - self.lateral, 0)
        return self.base - self.dome * (lateral - medial) + beside

    @cached_property
    def depth(self) -> Layer:
        """Distance to the mediastinal or lateral border or the apex, negative outside, [n, n]."""
        inner, wall = self.borders(self.v)
        out = self.side * self.x
        return np.minimum(np.minimum(out - inner, wall - out), self.y - self.apex)

    def borders(self, v: Layer) -> tuple[Layer, Layer]:
        """Return the distances of the mediastinal and lateral borders from the midline at relative heights."""
        centre = _MEDIAL + 0.40 * (self.lateral - _MEDIAL)
        inner = np.sqrt(1 - (1 - np.clip(v / 0.22, 0, 1)) ** 2)
        wall = (1 - (1 - np.clip(v / 0.88, 0, 1)) ** 2.2) ** 0.68
        return centre - (centre - _MEDIAL) * inner, centre + (self.lateral - centre) * wall

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return x and y of a point given by its relative position in the lung."""
        inner, wall = self.borders(np.array(v))
        return float(self.side * (inner + u * (wall - inner))), self.apex + v * (self.base - self.apex)


class Chest:
    """Layers of one radiograph, which findings may change.

    ``air`` (depth of air in the lungs), ``vessels`` (of the lungs) and ``dense`` (belly and fluid) are [n, n], 0 to 1;
    ``opacity`` is additional attenuation, [n, n]. ``turn`` is the sideways shift of the front of the chest against its
    back, from rotation of the patient.
    """

    def __init__(self, anatomy: Anatomy, lungs: tuple[Lung, Lung], *, turn: float, heart_ratio: float) -> None:
        self.anatomy, self.lungs, self.turn, self.heart_ratio = anatomy, lungs, turn, heart_ratio
        right, left = lungs
        self.x, self.y = left.x, left.y
        depth = np.maximum(*(np.minimum(lung.depth, lung.diaphragm - self.y) for lung in lungs))
        self.air: Layer = soft_edge(depth, 0.006) * (1 - 0.65 * (1 - np.clip(depth / 0.08, 0, 1)) ** 2)
        self.vessels: Layer = np.maximum(*map(_vessels, lungs, anatomy.vessels))
        left_share = soft_edge(self.x, 0.08)
        diaphragm = (1 - left_share) * right.diaphragm + left_share * left.diaphragm
        self.dense = soft_edge(self.y - diaphragm, 0.02)
        self.opacity: Layer = np.zeros_like(self.air)

    def heart(self) -> Layer:
        """Return the shape of the heart, [n, n], 1 inside and 0 outside."""
        width = self.heart_ratio * sum(lung.lateral for lung in self.lungs)
        left, half_height = self.lungs[1], 0.165
        shift = self.anatomy.heart_tilt * half_height
        half_width = ((width / 2) ** 2 - shift**2) ** 0.5
        # An ellipse, sheared towards the patient's left and wider at the bottom.
        y = (self.y - (left.base - 0.55 * left.dome + 0.03 - half_height)) / half_height
        x = (self.x - self.turn - 0.16 * width - shift * y) / (half_width * (0.95 + 0.30 * y))
        return soft_edge(0.15 * (1 - x**2 - y**2), 0.03)

    def attenuation(self, *, texture: Layer, sag: float, haze: Layer) -> Layer:
        """Add up the layers, [n, n], 0 outside the patient and about 2 below the diaphragm.

        ``texture``, [n, n], is fine noise in the lungs, and ``haze``, [n, n], slow variation of the soft tissue as
        fractions. ``sag`` is the fraction by which the patient is thicker at the bottom of the radiograph.
        """
        centre = np.maximum(self.heart(), 0.88 * self._great_vessels()) * (1 - 0.65 * self.dense)
        markings = self.anatomy.markings * (0.05 * texture + 0.28 * self.vessels)
        total = self._soft_tissue(sag) * (1 + haze) + 0.50 * centre
        total += (markings - 0.80) * self.air * (1 - 0.60 * centre)
        total += self.anatomy.bone * self._bones() + self.opacity
        return np.maximum(total, 0)

    def _soft_tissue(self, sag: float) -> Layer:
        """Return trunk, arms, belly and breasts without the trachea, [n, n]."""
        x, y, top = np.abs(self.x), self.y, self.anatomy.apex
        torso, girth, breast = self.anatomy.torso, self.anatomy.girth, self.anatomy.breast
        heights = [top - 0.12, top - 0.055, top - 0.01, top + 0.06, top + 0.20, top + 0.34]
        outline = np.interp(y, heights, [0.10, 0.16, 0.34, 0.46, 0.50, torso])
        trunk = soft_edge(cv2.GaussianBlur(outline, (0, 0), 0.02 * len(y)) - x, 0.04)
        below_shoulder = np.minimum(y - top - 0.75 * x + 0.27, x - 0.40)
        arms = soft_edge(np.minimum(x - torso - 0.6 * (y - top) + 0.175, below_shoulder), 0.04)
        body = np.maximum(trunk, 0.84 * arms)
        breast_x, breast_y = np.abs(self.x - self.turn) - 0.21, y - self.anatomy.breast_y
        radius = np.hypot(breast_x / (0.10 + 0.05 * breast), breast_y / (0.07 + 0.06 * breast))
        breasts = soft_edge(0.1 * (1 - radius), 0.03) * np.clip(0.6 + breast_y / 0.2, 0, 1)
        trachea = soft_edge(0.016 - np.abs(self.x - self.turn), 0.01) * soft_edge(top + 0.18 - y, 0.02)
        tissue = girth * (1 + sag * y) * (0.62 * body + 0.50 * body**2)
        return tissue + 0.80 * self.dense * trunk + 0.40 * breast * breasts - 0.25 * trachea

    def _great_vessels(self) -> Layer:
        """Return the mediastinum above the heart, [n, n]."""
        below_arch = self.y - self.anatomy.apex - 0.27 * self.anatomy.height
        right = 0.05 + 0.012 * soft_edge(below_arch - 0.05, 0.2)
        aortic_knob = 0.02 * np.exp(-((below_arch / 0.03) ** 2))
        x = self.x - self.turn / 2
        return soft_edge(np.minimum(x + right, right + aortic_knob - x), 0.012)

    def _bones(self) -> Layer:
        """Return the attenuation of the skeleton, [n, n]."""
        x, y, top = self.x, self.y, self.anatomy.apex
        disc = ((y - top) / 0.062) % 1 > 0.85
        spine = soft_edge(0.03 - np.abs(x + self.turn), 0.006) * np.where(disc, 0.15, 0.25)
        along = (np.abs(x - self.turn) - 0.03) / 0.35
        clavicle_y = top + 0.085 - 0.035 * along + 0.014 * np.sin(2 * np.pi * along)
        clavicles = _bone(np.abs(y - clavicle_y), 0.014, 0.30) * soft_edge(np.minimum(along, 1 - along), 0.05)
        return spine + clavicles + self._ribs(self.lungs[0]) + self._ribs(self.lungs[1])

    def _ribs(self, lung: Lung) -> Layer:
        """Return the ribs over one lung, [n, n]."""
        # All ribs of a side follow nearly the same curve, one below the other. So the height of a point in units of
        # the distance between ribs, measured along that curve, is a whole number on the centre line of a rib.
        spacing, slope, height = self.anatomy.rib_spacing, self.anatomy.rib_slope, lung.base - lung.apex
        _, wall = lung.borders(lung.v)
        along = (lung.side * self.x - 0.03) / (wall - 0.024)
        t = np.clip(along, 0, 1)
        t_4 = np.square(np.square(t))
        fall = 0.6 * t_4 + 0.4 * np.square(np.square(t_4))
        y = lung.v - 0.15 * spacing + 0.02
        posterior = (y - 0.45 * slope * fall + 0.11 * t * (1 - t)) / (spacing + 0.11 * slope * fall)
        # The anterior part of a rib goes on from the lateral end of the posterior part, forwards and down.
        forward = 1.2 * np.sqrt(1 - t)
        front_spacing = spacing + 0.11 * slope + 0.018 * forward
        anterior = (y - 0.45 * slope - 0.10 * forward) / front_spacing
        ribs = np.zeros_like(along)
        for number, pitch, strength, start in ((posterior, spacing, 0.22, 0), (anterior, front_spacing, 0.12, 0.45)):
            distance = np.abs(number - np.clip(np.rint(number), 0, _N_RIBS - 1)) * pitch * height
            ribs += _bone(distance, _RIB_WIDTH / 2, strength) * (along > start) * (along < 1)
        return ribs


def _bone(distance: Layer, half_width: float, strength: float) -> Layer:
    """Return a bone that is denser near its surface, given the distance to its centre line."""
    cortex = np.square(np.square(np.minimum(distance / half_width, 1)))
    return soft_edge(half_width - distance, 0.005) * (strength * (0.8 + 0.6 * cortex))


def _vessels(lung: Lung, noise: Layer) -> Layer:
    """Return vessels that radiate from the hilum and fade outwards, [n, n], 0 to 1."""
    # Noise in polar coordinates around the hilum is 0 along lines that radiate and branch.
    radius, angle = cv2.cartToPolar(0.5 * (lung.u - 0.10), np.broadcast_to(lung.v - 0.46, lung.u.shape))
    column = (angle * ((noise.shape[1] - 1) / (2 * np.pi))).astype(np.float32)
    row = (np.sqrt(radius) * noise.shape[0]).astype(np.float32)
    values = cv2.remap(noise, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    lines = np.clip(1 - np.abs(values) / (0.15 + 0.1 / (radius + 0.1)), 0, 1)
    vessels: Layer = np.maximum(lines * np.exp(-radius / 0.35), np.exp(-((radius / 0.06) ** 2)))
    return vessels


def pose_chest(rng: np.random.Generator, anatomy: Anatomy, *, side: int, view: str) -> Chest:
    """Position a patient for one radiograph of ``side`` pixels: depth of inspiration and rotation are random.

    On an ``"AP"`` radiograph the heart is wider and the lungs are less inflated than on a ``"PA"`` one.
    """
    supine = view == "AP"
    x = FRAME * ((np.arange(side) + 0.5) / side - 0.5)[None]
    base = anatomy.apex + anatomy.height * (rng.uniform(0.90, 1.03) - 0.05 * supine)

    def lung(direction: int, lateral: float, dome: float) -> Lung:
        own_base = base + rng.normal(0, 0.008)
        return Lung(direction, anatomy.apex, own_base, lateral, dome * rng.uniform(0.9, 1.15), x, x.T)

    right, left = map(lung, (-1, 1), anatomy.widths, anatomy.domes)
    ratio = anatomy.heart_ratio * rng.uniform(0.98, 1.02) * (1.04 if supine else 1.0)
    return Chest(anatomy, (right, left), turn=rng.normal(0, 0.007), heart_ratio=ratio)
