"""The outlines of one image: the patient's anatomy, as far as it was breathed in and turned."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from cxr_pipeline.data.phantoms.anatomy import Anatomy
from cxr_pipeline.data.phantoms.geometry import Points, closed_spline

RIGHT, LEFT = 0, 1
_CREST = 0.42


@dataclass(frozen=True)
class Lung:
    """One lung.

    Args:
        side: -1 for the patient's right lung, on the viewer's left; 1 for the left one.
        medial, lateral: distance of its borders from the mid-line.
        apex, base: y of the apex and of the costophrenic angle.
        dome: height of the diaphragm above the costophrenic angle.
    """

    side: int
    medial: float
    lateral: float
    apex: float
    base: float
    dome: float

    def at(self, u: Points, v: Points) -> Points:
        """Points [..., 2] at ``u`` (0 mediastinum, 1 chest wall) and ``v`` (0 apex, 1 base)."""
        heights, wall_shape, inner_shape = _borders()
        centre = self.medial + 0.40 * (self.lateral - self.medial)
        wall = centre + (self.lateral - centre) * np.interp(v, heights, wall_shape)
        inner = centre - (centre - self.medial) * np.interp(v, heights, inner_shape)
        v = np.clip(v, 0.0, 1.0)
        x = inner + u * (wall - inner)
        return np.stack([self.side * x, self.apex + v * (self.base - self.apex)], axis=-1)

    def floor(self, u: Points) -> Points:
        """The height of the diaphragm above the costophrenic angle at ``u``, in the shape of ``u``."""
        lateral = 1 - np.abs((u - _CREST) / (1 - _CREST)) ** 2.4
        medial = 1 - 0.4 * ((u - _CREST) / _CREST) ** 2
        return self.dome * np.where(u > _CREST, lateral, medial)

    def above_floor(self, u: Points, height: Points) -> Points:
        """Points [..., 2] at ``u`` and ``height`` above the costophrenic angle."""
        return self.at(u, 1 - height / (self.base - self.apex))

    def outline(self) -> Points:
        """The border of the aerated lung, float64 [p, 2]: wall, diaphragm, mediastinum."""
        down, across, up = _grid()
        bottom = 1 - self.floor(across) / (self.base - self.apex)
        u = np.concatenate([np.ones_like(down), across, np.zeros_like(up)])
        return self.at(u, np.concatenate([down, bottom, up * bottom[-1]]))


@cache
def _borders() -> tuple[Points, Points, Points]:
    """How far wall and mediastinal border have parted from the apex's axis at a height, 0 to 1."""
    heights = np.linspace(0, 1, 129) ** 2
    wall = (1 - (1 - np.minimum(heights / 0.88, 1)) ** 2.2) ** 0.68
    inner = (1 - (1 - np.minimum(heights / 0.22, 1)) ** 2) ** 0.5
    return heights, wall, inner


@cache
def _rib_shapes() -> tuple[Points, ...]:
    """Number of the rib [10, 1], then along it [1, 14]: the way, and its runs outwards, up, down, inwards and down."""
    along = np.linspace(0, 1, 14)[None, :]
    quarter = np.pi / 2 * along
    number, back, front = np.arange(10.0)[:, None], np.sin(quarter) ** 0.9, np.cos(0.74 * quarter)
    return number, along, back, np.sin(2 * quarter), along**2.4, front, along**1.15


@cache
def _grid() -> tuple[Points, Points, Points]:
    return np.linspace(0, 1, 24) ** 1.6, np.linspace(1, 0, 18), np.linspace(1, 0, 12) ** 1.6


@dataclass(frozen=True)
class Chest:
    """Everything that an image shows of a patient, as outlines in the frame of the image.

    Args:
        anatomy: whose chest it is.
        lungs: right and left.
        turn: how far the front of the chest is turned sideways against its back.
        heart_width: width of the heart from border to border.
    """

    anatomy: Anatomy
    lungs: tuple[Lung, Lung]
    turn: float
    heart_width: float

    @property
    def width(self) -> float:
        """Inner width of the chest."""
        return self.lungs[RIGHT].lateral + self.lungs[LEFT].lateral

    @property
    def bottom(self) -> float:
        """Lower border of the heart: its y."""
        lung = self.lungs[LEFT]
        return lung.base - 0.55 * lung.dome

    def heart(self) -> Points:
        """Outline of the heart alone, float64 [p, 2]."""
        right, left, low = -0.34 * self.heart_width, 0.66 * self.heart_width, self.bottom
        tall = 0.30 + 0.06 * (1 - self.anatomy.heart_axis)
        apex_y = low - 0.045 - 0.04 * self.anatomy.heart_axis
        knots = np.array(
            [
                [right * 0.72, low - 0.78 * tall],
                [0.02, low - tall],
                [left * 0.52, low - 0.78 * tall],
                [left * 0.85, low - 0.45 * tall],
                [left, apex_y],
                [left * 0.86, low + 0.01],
                [0.0, low + 0.035],
                [right * 0.80, low],
                [right, low - 0.30 * tall],
                [right * 0.95, low - 0.52 * tall],
            ]
        )
        return closed_spline(knots, x=self.turn)

    def mediastinum(self) -> Points:
        """Outline of the great vessels above the heart, float64 [p, 2]."""
        anatomy, low = self.anatomy, self.bottom
        half, top = anatomy.mediastinum, anatomy.apex
        arch = top + 0.27 * anatomy.height
        knots = np.array(
            [
                [-half, top - 0.16],
                [half, top - 0.16],
                [half * 0.95, top + 0.04],
                [half + 0.3 * anatomy.knob, arch - 0.045],
                [half + 0.012 + anatomy.knob, arch],
                [half * 0.95, arch + 0.045],
                [half + 0.022, arch + 0.09],
                [half + 0.03, low - 0.12],
                [0.02, low - 0.02],
                [-half - 0.012, low - 0.12],
                [-half - 0.006, arch + 0.06],
                [-half * 1.05, arch - 0.04],
            ]
        )
        return closed_spline(knots, x=self.turn / 2)

    def spine(self, y: Points) -> Points:
        """Mid-line of the spine: x at ``y``."""
        return -self.turn + self.anatomy.scoliosis * np.sin(5 * y + 1)

    def ribs(self) -> tuple[Points, Points]:
        """Centre lines of the posterior and of the anterior ribs, each float64 [20, 14, 2], right ones first."""
        number, along, outwards, hump, sink, inwards, drop = _rib_shapes()
        posterior, anterior = [], []
        for lung in self.lungs:
            height = lung.base - lung.apex
            start = lung.apex + height * (self.anatomy.ribs * (number + 0.15) - 0.02)
            fall = height * self.anatomy.rib_slope * (0.45 + 0.11 * number)
            end = start + fall
            wall = np.abs(lung.at(np.ones_like(end), (end - lung.apex) / height)[..., 0]) + 0.006
            x = 0.03 + (wall - 0.03) * outwards
            y = start - 0.018 * hump + fall * sink
            posterior.append(np.stack([lung.side * x - self.turn * (1 - along), y], axis=-1))
            x = wall * inwards
            y = end + height * (0.10 + 0.018 * number) * drop
            anterior.append(np.stack([lung.side * x + self.turn * along, y], axis=-1))
        return np.concatenate(posterior), np.concatenate(anterior)

    def clavicles(self) -> Points:
        """Centre lines of both clavicles, float64 [2, 10, 2], the right one first."""
        along = np.linspace(0, 1, 10)
        x = 0.030 + 0.35 * along
        y = self.anatomy.apex + 0.085 - (0.01 + 0.7 * self.anatomy.clavicle) * along + 0.014 * np.sin(2 * np.pi * along)
        return np.stack([np.stack([side * x + self.turn, y], axis=-1) for side in (-1, 1)])


def stand(rng: np.random.Generator, anatomy: Anatomy, *, view: str) -> Chest:
    """Let a patient breathe in and turn for one image.

    Args:
        rng: where the chance comes from.
        anatomy: the patient.
        view: ``"PA"`` or ``"AP"``; the heart is wider and the breath shallower on an AP image.
    """
    lying = view == "AP"
    breath = rng.uniform(0.90, 1.03) - 0.05 * lying
    lift = rng.normal(0, 0.008, 2)
    lungs = [
        Lung(
            side=(-1, 1)[index],
            medial=0.035,
            lateral=anatomy.widths[index],
            apex=anatomy.apex,
            base=anatomy.apex + anatomy.height * breath + lift[index] - 0.012 * (index == RIGHT),
            dome=anatomy.domes[index] * rng.uniform(0.9, 1.15),
        )
        for index in (RIGHT, LEFT)
    ]
    heart = anatomy.heart_ratio * sum(anatomy.widths) * rng.uniform(0.98, 1.02) * (1.04 if lying else 1.0)
    return Chest(anatomy, (lungs[RIGHT], lungs[LEFT]), float(rng.normal(0, 0.007)), heart)
