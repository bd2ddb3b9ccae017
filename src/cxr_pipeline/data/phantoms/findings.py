"""Findings: each changes the layers of a chest and returns a mask [n, n] for every place where it is visible."""

from collections.abc import Callable

import cv2
import numpy as np

from cxr_pipeline.data.phantoms.chest import Chest, Layer, Lung, soft_edge


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
