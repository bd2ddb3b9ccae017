"""Findings, each drawn into the layers of an image, and their boxes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cxr_pipeline.data.phantoms.chest import Chest, Lung
from cxr_pipeline.data.phantoms.geometry import Layer, Points, ellipse, enlarge, soften, unit_circle
from cxr_pipeline.data.phantoms.layers import Layers


@dataclass(frozen=True)
class Box:
    """Where a finding is.

    Args:
        finding: its name in NIH's spelling.
        x, y: upper left corner in pixels of the image.
        width, height: in pixels of the image, above 0; the box does not leave the image.
    """

    finding: str
    x: float
    y: float
    width: float
    height: float


def _box(finding: str, layers: Layers, points: Points) -> Box:
    placed = np.clip(layers.pose.place(points.reshape(-1, 2)), 0, 1) * layers.side
    (x, y), (right, bottom) = placed.min(axis=0), placed.max(axis=0)
    return Box(finding, float(x), float(y), float(right - x), float(bottom - y))


def _some_lung(rng: np.random.Generator, layers: Layers) -> Lung:
    return layers.chest.lungs[int(rng.random() < 0.5)]


def enlarge_heart(rng: np.random.Generator, chest: Chest) -> Chest:
    """The same chest with a cardiothoracic ratio of 0.54 to 0.68."""
    return replace(chest, heart_width=rng.uniform(0.54, 0.68) * chest.width)


def draw_cardiomegaly(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """Box the heart; ``enlarge_heart`` has widened it."""
    return [_box("Cardiomegaly", layers, layers.chest.heart())]


def draw_effusion(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """Fluid in one pleural space, in a quarter of the cases in both: from a blunted angle to half a lung."""
    lungs = list(layers.chest.lungs)
    if rng.random() > 0.25:
        lungs = [lungs[int(rng.random() < 0.5)]]
    fluid, dense = layers.mask(), np.zeros_like(layers.dense)
    opacity = rng.uniform(0.75, 1.0)
    boxes = []
    for lung in lungs:
        surface = _meniscus(rng, lung)
        floor = np.array([[lung.side * lung.lateral, lung.base], [0.0, lung.base]])
        pool = np.concatenate([surface, floor])
        layers.pose.fill(fluid, [pool], 255)
        layers.pose.fill(dense, [pool], round(255 * opacity))
        u = np.linspace(0, 1, len(surface))
        above = surface[lung.base - surface[:, 1] > lung.floor(u)]
        angle = lung.at(np.ones(1), np.ones(1))
        boxes.append(_box("Effusion", layers, np.concatenate([above, angle])))
    layers.dense = np.maximum(layers.dense, dense)
    dry = soften(cv2.bitwise_not(fluid), 0.004)
    layers.air *= cv2.max(dry, 1 - opacity)
    return boxes


def _meniscus(rng: np.random.Generator, lung: Lung) -> Points:
    """The surface of the fluid from the mediastinum to the wall, where it rises."""
    u = np.linspace(0, 1, 40)
    at_wall = float(np.exp(rng.uniform(*np.log([0.042, 0.36]))))
    level = at_wall * rng.uniform(0.55, 0.90)
    return lung.above_floor(u, level + (at_wall - level) * u ** rng.uniform(2.5, 6))


def draw_pneumonia(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """A fluffy consolidation: a heap of soft clouds in one lung."""
    lung = _some_lung(rng, layers)
    middle = lung.at(np.array(rng.uniform(0.25, 0.75)), np.array(rng.uniform(0.30, 0.78)))
    radius = rng.uniform(0.045, 0.10)
    clouds = np.clip(rng.normal(0, 0.55, (10, 2)), -1.1, 1.1) * radius + middle
    mask = layers.coarse_mask()
    for cloud, share in zip(clouds, rng.uniform(0.25, 0.6, len(clouds)), strict=True):
        drop = layers.coarse_mask()
        layers.pose.fill(drop, [ellipse(cloud, (share * radius, share * radius))], 70)
        mask = cv2.add(mask, drop)
    grain = rng.standard_normal((24, 24), dtype=np.float32)
    mottled = soften(mask, 0.016) * (1 + 0.35 * cv2.resize(grain, mask.shape, interpolation=cv2.INTER_CUBIC))
    cloudy = np.clip(enlarge(mottled, layers.side), 0, 1) * layers.lungs
    layers.added += np.float32(rng.uniform(0.45, 0.85)) * cloudy
    return [_box_of_layer("Pneumonia", cloudy)]


def _box_of_layer(finding: str, layer: Layer) -> Box:
    x, y, width, height = cv2.boundingRect((layer > 0.2 * layer.max()).astype(np.uint8))
    return Box(finding, float(x), float(y), float(width), float(height))


def draw_mass(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """One round or lobulated opacity, 3 cm or more across."""
    return [_round_opacity(rng, layers, "Mass", radius=rng.uniform(0.040, 0.085), lobes=0.10)]


def draw_nodule(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """One to three round opacities below 3 cm."""
    return [
        _round_opacity(rng, layers, "Nodule", radius=rng.uniform(0.013, 0.032), lobes=0.04)
        for _ in range(rng.choice(3, p=[0.75, 0.17, 0.08]) + 1)
    ]


def _round_opacity(rng: np.random.Generator, layers: Layers, finding: str, *, radius: float, lobes: float) -> Box:
    lung = _some_lung(rng, layers)
    middle = lung.at(np.array(rng.uniform(0.30, 0.80)), np.array(rng.uniform(0.18, 0.72)))
    circle = unit_circle(32)
    angle = np.arctan2(circle[:, 1], circle[:, 0])
    heights, phases = rng.normal(0, lobes, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))
    waves = (heights * np.cos(np.array([[2], [3], [4]]) * angle + phases)).sum(axis=0)
    outline = middle + (radius * (1 + waves))[:, None] * circle
    mask = layers.mask()
    layers.pose.fill(mask, [outline], 255)
    # A ball is thickest in its middle: one sharp and one wide blur together come near that.
    ball = 0.5 * soften(mask, 0.004) + 0.5 * soften(mask, 0.4 * radius)
    layers.added += np.float32(rng.uniform(0.30, 0.65)) * ball
    return _box(finding, layers, outline)


def draw_pneumothorax(rng: np.random.Generator, layers: Layers) -> list[Box]:
    """Air around the apex and the side of one lung: no vessels there, and the line of the pleura."""
    lung = _some_lung(rng, layers)
    gap = rng.uniform(0.07, 0.42)
    v = np.linspace(0, 1, 32)
    reach = rng.uniform(0.65, 1.05)
    width = gap * np.clip(1 - (v / reach) ** 2, 0, 1)
    top = gap * rng.uniform(0.15, 0.40)
    pleura = lung.at(1 - width, top + (1 - top) * v)
    wall = lung.at(np.ones_like(v), v)
    over = lung.at(np.linspace(0.0, 1.0, 8), np.zeros(8))
    rim = layers.mask()
    layers.pose.fill(rim, [np.concatenate([pleura[::-1], over, wall])], 255)
    empty = soften(rim, 0.003) * layers.lungs
    layers.vessels = (layers.vessels * (1 - empty)).astype(np.uint8)
    layers.air += np.float32(rng.uniform(0.14, 0.28)) * empty
    line = layers.mask()
    layers.pose.trace(line, [pleura[width > 0.01]], 0.0045, 255)
    layers.added += np.float32(0.34 / 255) * line
    return [_box_of_layer("Pneumothorax", empty)]


Draw = Callable[[np.random.Generator, Layers], list[Box]]

RESHAPE: dict[str, Callable[[np.random.Generator, Chest], Chest]] = {"Cardiomegaly": enlarge_heart}
DRAW: dict[str, Draw] = {
    "Effusion": draw_effusion,
    "Pneumonia": draw_pneumonia,
    "Mass": draw_mass,
    "Nodule": draw_nodule,
    "Cardiomegaly": draw_cardiomegaly,
    "Pneumothorax": draw_pneumothorax,
}
FINDINGS: tuple[str, ...] = tuple(DRAW)
