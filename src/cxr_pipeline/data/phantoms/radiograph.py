"""Radiographs: findings change the layers of a chest, whose attenuation becomes grey levels.

Each finding returns a mask [n, n] for every place where it is visible.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.data.phantoms.chest import FRAME, Anatomy, Chest, Layer, Lung, pose_chest, soft_edge

# Ribs and vessels vanish below this size; smaller radiographs are drawn larger and averaged.
_MIN_SIDE = 96


def add_effusion(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Add fluid to one pleural space, or in a quarter of cases both: from a blunted angle to half a lung."""
    affected = chest.lungs if rng.random() < 0.25 else (_either_lung(rng, chest),)
    opacity = rng.uniform(0.6, 1.0)
    masks = []
    for lung in affected:
        # The surface of the fluid is a meniscus, which rises along the chest wall.
        at_wall = np.exp(rng.uniform(np.log(0.042), np.log(0.36)))
        level = at_wall * rng.uniform(0.55, 0.90)
        surface = level + (at_wall - level) * np.clip(lung.u, 0, 1) ** rng.uniform(2.5, 6)
        fluid = soft_edge(lung.depth, 0.006) * soft_edge(chest.y - lung.base + surface, 0.012)
        masks.append(fluid * (chest.air > 0.1))
        chest.air = chest.air * (1 - opacity * fluid)
        chest.dense = np.maximum(chest.dense, opacity * fluid)
    return masks


def add_pneumonia(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Add a consolidation to one lung, mottled and without a sharp border."""
    x, y = _either_lung(rng, chest).at(rng.uniform(0.30, 0.75), rng.uniform(0.30, 0.75))
    radius = rng.uniform(0.055, 0.11)
    clouds = np.zeros_like(chest.air)
    for dx, dy in np.clip(rng.normal(0, 0.55, (10, 2)), -1.1, 1.1) * radius:
        width = radius * rng.uniform(0.35, 0.75)
        clouds += np.exp(-(((chest.x - x - dx) / width) ** 2)) * np.exp(-(((chest.y - y - dy) / width) ** 2))
    mottling = cv2.resize(rng.standard_normal((24, 24)), clouds.shape, interpolation=cv2.INTER_CUBIC)
    consolidation = np.clip(0.35 * clouds * (1 + 0.35 * mottling), 0, 1) * np.minimum(2 * chest.air, 1)
    chest.opacity += rng.uniform(0.65, 1.0) * consolidation
    return [consolidation]


def add_mass(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Add one round or lobulated opacity of more than 3 cm."""
    return [_add_round_opacity(rng, chest, radius=rng.uniform(0.045, 0.09), lobes=0.10)]


def add_nodules(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Add one to three round opacities of less than 3 cm."""
    count = rng.choice([1, 2, 3], p=[0.75, 0.17, 0.08])
    return [_add_round_opacity(rng, chest, radius=rng.uniform(0.018, 0.034), lobes=0.04) for _ in range(count)]


def add_cardiomegaly(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Enlarge the heart to a cardiothoracic ratio of .54 to .68."""
    chest.heart_ratio = rng.uniform(0.54, 0.68)
    return [chest.heart()]


def add_pneumothorax(rng: np.random.Generator, chest: Chest) -> list[Layer]:
    """Detach one lung from apex and chest wall: no vessels in the gap, and a thin pleural line along it."""
    lung = _either_lung(rng, chest)
    gap, reach, top = rng.uniform(0.07, 0.42), rng.uniform(0.65, 1.05), rng.uniform(0.15, 0.40)
    lateral_gap = gap * (1 - (lung.v / reach) ** 2)
    # Distance to the pleura of the collapsed lung, positive in the gap.
    outside = np.maximum(lung.u - 1 + lateral_gap, gap * top * lung.u - lung.v) * lung.lateral
    own_air = np.minimum(2 * chest.air, 1) * (chest.x * lung.side > 0) * (lateral_gap > 0)
    free_air = soft_edge(outside, 0.006) * own_air
    chest.vessels = chest.vessels * (1 - free_air)
    chest.air = chest.air + rng.uniform(0.25, 0.40) * free_air
    chest.opacity += 0.34 * soft_edge(0.002 - np.abs(outside), 0.006) * own_air
    return [free_air]


def _either_lung(rng: np.random.Generator, chest: Chest) -> Lung:
    return chest.lungs[int(rng.random() < 0.5)]


def _add_round_opacity(rng: np.random.Generator, chest: Chest, *, radius: float, lobes: float) -> Layer:
    x, y = _either_lung(rng, chest).at(rng.uniform(0.30, 0.80), rng.uniform(0.18, 0.72))
    dx, dy = chest.x - x, chest.y - y
    angle = np.arctan2(dy, dx)
    outline = 1 + sum(rng.normal(0, lobes) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    # The thickness of a ball at a distance from its centre.
    ball = np.sqrt(np.clip(1 - (dx**2 + dy**2) / (radius * outline) ** 2, 0, 1))
    chest.opacity += rng.uniform(0.50, 0.80) * ball
    return ball


FINDINGS: dict[str, Callable[[np.random.Generator, Chest], list[Layer]]] = {
    "Effusion": add_effusion,
    "Pneumonia": add_pneumonia,
    "Mass": add_mass,
    "Nodule": add_nodules,
    "Cardiomegaly": add_cardiomegaly,
    "Pneumothorax": add_pneumothorax,
}


@dataclass(frozen=True)
class Box:
    """Bounding box of a finding inside the image: upper left corner and size in pixels."""

    finding: str
    x: float
    y: float
    width: float
    height: float


def draw_radiograph(
    rng: np.random.Generator, *, size: int, anatomy: Anatomy, findings: Collection[str] = (), view: str = "PA"
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Draw one radiograph of a patient with findings from ``FINDINGS``, in the view ``"PA"`` or ``"AP"``.

    It is uint8 [size, size], at least 32 pixels wide, and is returned with the boxes of its findings. Generators in the
    same state give the same radiograph. Other findings change only the places of the findings.
    """
    rng_of = dict(zip(FINDINGS, rng.spawn(len(FINDINGS)), strict=True))
    factor = -(-_MIN_SIDE // size)
    side = size * factor
    chest = pose_chest(rng, anatomy, side=side, view=view)
    to_image = _placement(rng, side)
    boxes = []
    for finding, add in FINDINGS.items():
        if finding in findings:
            for mask in add(rng_of[finding], chest):
                box = cv2.boundingRect((_warp(mask, to_image) > 0.25 * mask.max()).astype(np.uint8))
                boxes.append(Box(finding, *(edge / factor for edge in box)))
    attenuation = chest.attenuation(
        texture=cv2.resize(rng.standard_normal((side // 3, side // 3)), (side, side)),
        sag=rng.uniform(0.1, 0.5),
        haze=cv2.resize(rng.normal(0, rng.uniform(0.02, 0.08), (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC),
    )
    image = _expose(rng, _warp(attenuation, to_image), size)
    _add_marker_and_collimation(rng, image)
    return image, boxes


def _placement(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Return a random affine map from the chest to the radiograph: rotation in degrees, zoom and shift."""
    angle = np.clip(rng.normal(0, 1.4), -3.4, 3.4)
    matrix = np.asarray(cv2.getRotationMatrix2D((side / 2, side / 2), angle, FRAME * rng.uniform(0.90, 1.07)))
    matrix[:, 2] += side * np.array([np.clip(rng.normal(0, 0.018), -0.04, 0.04), rng.uniform(-0.03, 0.03)])
    return matrix


def _warp(layer: Layer, matrix: NDArray[np.float64]) -> Layer:
    return np.asarray(cv2.warpAffine(layer, matrix, layer.shape, borderMode=cv2.BORDER_REPLICATE))


def _expose(rng: np.random.Generator, attenuation: Layer, size: int) -> NDArray[np.uint8]:
    """Turn attenuation into grey levels with a random exposure, tone curve, sharpness and noise."""
    transmitted = np.exp(-np.exp(rng.normal(0, 0.15)) * attenuation)
    curve = rng.uniform(-0.5, 0.35)
    grey = 1 - transmitted + curve * transmitted * (1 - transmitted)
    grey = cv2.GaussianBlur(grey, (0, 0), max(rng.uniform(0.0015, 0.0035) * len(grey), 0.3))
    grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
    black, white = rng.uniform(0, 26), rng.uniform(225, 275)
    levels = black + (white - black) * grey + rng.normal(0, rng.uniform(1.0, 4.5), (size, size))
    return np.asarray(np.rint(levels.clip(0, 255)), dtype=np.uint8)


def _add_marker_and_collimation(rng: np.random.Generator, image: NDArray[np.uint8]) -> None:
    """Write the side marker, an L, near the upper right corner, and blacken the edges outside the collimator."""
    side = len(image)
    corner = rng.uniform([0.87, 0.06], [0.95, 0.14]) * side
    cv2.putText(image, "L", corner.astype(int).tolist(), cv2.FONT_HERSHEY_SIMPLEX, side / 700, 245, max(1, side // 170))
    top, bottom, left, right = (np.maximum(rng.uniform(-0.06, 0.03, 4), 0) * side).astype(int)
    for strip in (image[:top], image[side - bottom :], image[:, :left], image[:, side - right :]):
        strip[:] = 0
