"""What the ray meets on its way through the chest, layer by layer."""

from dataclasses import dataclass

import cv2
import numpy as np

from cxr_pipeline.data.phantoms.anatomy import BRANCHES
from cxr_pipeline.data.phantoms.chest import LEFT, RIGHT, Chest
from cxr_pipeline.data.phantoms.geometry import (
    Layer,
    Mask,
    Points,
    Pose,
    closed_spline,
    ellipse,
    enlarge,
    ribbons,
    soften,
)

COARSE = 4
_VESSEL_WIDTHS = (0.011, 0.0056, 0.0036)
_CLAVICLE = 0.024 + 0.012 * np.abs(np.linspace(-0.9, 1, 10)) ** 2
_VESSEL_VALUES = (80, 62, 46)


@dataclass
class Layers:
    """The layers that findings change, each [side, side].

    Args:
        chest: the outlines of the image.
        pose: how they come onto it.
        side: pixels from edge to edge, a multiple of 4.
        lungs: float32, 1 in the lungs, 0 outside, smooth at the edge.
        air: float32, depth of air, 0 to 1.
        vessels: uint8, the lungs' vessels.
        added: float32, attenuation that does not belong there.
        dense: uint8 [side / 2, side / 2], what is as dense as the liver: the belly, and fluid.
    """

    chest: Chest
    pose: Pose
    side: int
    lungs: Layer
    air: Layer
    vessels: Mask
    added: Layer
    dense: Mask

    @classmethod
    def of(cls, chest: Chest, pose: Pose, side: int) -> "Layers":
        """Draw the healthy lungs."""
        mask = _mask(side)
        pose.fill(mask, [lung.outline() for lung in chest.lungs], 255)
        lungs = np.multiply(mask, np.float32(1 / 255), dtype=np.float32)
        coarse = cv2.resize(mask, (side // COARSE, side // COARSE), interpolation=cv2.INTER_AREA)
        depth = enlarge(soften(coarse, 0.035), side)
        depth *= np.float32(0.65)
        depth += np.float32(0.35)
        air = np.multiply(depth, lungs, out=depth)
        dense = _mask(side // 2)
        pose.fill(dense, [_belly(chest)], 255)
        return cls(chest, pose, side, lungs, air, _vessels(chest, pose, side), np.zeros_like(air), dense)

    def coarse_mask(self) -> Mask:
        """An empty uint8 mask of a quarter of the side, for what has no sharp edge."""
        return _mask(self.side // COARSE)

    def mask(self) -> Mask:
        """An empty uint8 mask [side, side]."""
        return _mask(self.side)


def _mask(side: int) -> Mask:
    return np.zeros((side, side), np.uint8)


def _vessels(chest: Chest, pose: Pose, side: int) -> Mask:
    mask = _mask(side)
    vessels = chest.anatomy.vessels
    curves = np.stack([lung.at(uv[..., 0], uv[..., 1]) for lung, uv in zip(chest.lungs, vessels, strict=True)])
    last = vessels.shape[1]
    for count, width, value in list(zip(BRANCHES, _VESSEL_WIDTHS, _VESSEL_VALUES, strict=True))[::-1]:
        first = last - count
        pose.trace(mask, np.concatenate(curves[:, first:last]), width, value)
        last = first
    hila = [ellipse(branches[0, 0], (0.016, 0.036)) for branches in curves]
    pose.fill(mask, hila, 90)
    return mask


def tissue(layers: Layers, *, sag: float, haze: Layer) -> Layer:
    """Attenuation of soft tissue without the lungs, float32 [side, side].

    Args:
        layers: the image.
        sag: how much thicker the patient is at the bottom of the image than at its top.
        haze: float32 [n, n], slow changes over the image as fractions of the attenuation.
    """
    chest, pose = layers.chest, layers.pose
    anatomy = chest.anatomy
    body, breasts = layers.coarse_mask(), layers.coarse_mask()
    belly = cv2.resize(layers.dense, body.shape, interpolation=cv2.INTER_AREA)
    pose.fill(body, [_torso(chest)], 255)
    pose.fill(body, _arms(chest), 215)
    if anatomy.breast > 0.05:
        pose.fill(breasts, _breasts(chest), 255)
    down = np.linspace(1 - sag / 2, 1 + sag / 2, body.shape[0], dtype=np.float32)[:, None]
    trunk = soften(body, 0.014)
    coarse = np.float32(anatomy.girth) * down * (0.62 * trunk + 0.50 * trunk * trunk)
    coarse += np.float32(0.80) * soften(belly, 0.012)
    coarse += np.float32(0.40 * anatomy.breast) * soften(breasts, 0.008)
    coarse *= 1 + cv2.resize(haze, coarse.shape, interpolation=cv2.INTER_CUBIC)
    coarse -= _airways(layers)
    return enlarge(coarse, layers.side)


def _torso(chest: Chest) -> Points:
    trunk, top = chest.anatomy.torso, chest.anatomy.apex
    right = [
        [0.095, -0.75],
        [0.100, top - 0.10],
        [0.16, top - 0.055],
        [0.34, top - 0.01],
        [0.46, top + 0.06],
        [0.50, top + 0.20],
        [trunk + 0.015, top + 0.34],
        [trunk, 0.10],
        [trunk - 0.01, 0.35],
        [trunk + 0.01, 0.80],
    ]
    half = np.array(right)
    return closed_spline(np.concatenate([half, half[::-1] * [-1, 1]]), steps=4)


def _arms(chest: Chest) -> list[Points]:
    trunk, top = chest.anatomy.torso, chest.anatomy.apex
    arm = np.array(
        [
            [0.44, top + 0.07],
            [0.62, top + 0.16],
            [0.78, 0.30],
            [0.62, 0.45],
            [trunk + 0.12, 0.10],
            [trunk + 0.045, top + 0.37],
            [0.42, top + 0.22],
        ]
    )
    return [closed_spline(arm * [side, 1], steps=4) for side in (-1, 1)]


def _belly(chest: Chest) -> Points:
    across = np.linspace(0, 1.05, 12)
    halves = [lung.above_floor(across, lung.floor(across)) for lung in chest.lungs]
    top = np.concatenate([halves[RIGHT][::-1], halves[LEFT]])
    low = np.array([[chest.anatomy.torso, 0.8], [-chest.anatomy.torso, 0.8]])
    return np.concatenate([top, low])


def _breasts(chest: Chest) -> list[Points]:
    size, low = chest.anatomy.breast, chest.anatomy.breast_low
    knots = np.array([[-0.9, 0.1], [-0.55, 0.75], [0.0, 1.0], [0.6, 0.75], [1.0, 0.05], [0.75, -0.9], [0.0, -1.3]])
    outline = knots * [0.10 + 0.05 * size, 0.07 + 0.06 * size] + [0.21, low]
    return [closed_spline(outline * [side, 1], x=chest.turn) for side in (-1, 1)]


def centre(layers: Layers) -> Layer:
    """How far heart and great vessels fill the ray's way, float32 [side, side], 0 to 1."""
    half = layers.side // 2
    heart, vessels = _mask(half), _mask(half)
    layers.pose.fill(heart, [layers.chest.heart()], 255)
    layers.pose.fill(vessels, [layers.chest.mediastinum()], 225)
    both = cv2.subtract(cv2.max(heart, vessels), (layers.dense * np.float32(0.65)).astype(np.uint8))
    return enlarge(soften(both, 0.005), layers.side)


def _airways(layers: Layers) -> Layer:
    """Attenuation missing in trachea, main bronchi and stomach, float32 [side / 4, side / 4]."""
    chest, mask = layers.chest, layers.coarse_mask()
    anatomy = chest.anatomy
    carina = anatomy.apex + 0.30 * anatomy.height
    y = np.linspace(anatomy.apex - 0.2, carina, 6)
    trachea = np.stack([0.5 * chest.spine(y) + chest.turn / 2, y], axis=-1)
    layers.pose.trace(mask, [trachea], 0.032, 170)
    ends = np.array([[-0.055, carina + 0.045], [0.065, carina + 0.05]])
    layers.pose.trace(mask, [np.stack([trachea[-1], end]) for end in ends], 0.018, 110)
    if anatomy.bubble > 0.05:
        lung = chest.lungs[LEFT]
        middle = lung.above_floor(np.array(0.45), np.array(lung.dome - 0.025 - 0.022 * anatomy.bubble))
        layers.pose.fill(mask, [ellipse(middle, (0.03 + 0.04 * anatomy.bubble, 0.012 + 0.018 * anatomy.bubble))], 200)
    return np.float32(0.38) * soften(mask, 0.005)


def bones(layers: Layers) -> Mask:
    """Attenuation of the skeleton in 1/255 of that of bone, uint8 [side, side]."""
    chest, pose = layers.chest, layers.pose
    width = chest.anatomy.rib_width
    posterior, anterior = chest.ribs()
    back, front = layers.mask(), layers.mask()
    _bone(pose, back, ribbons(posterior, width), 58, 92)
    pose.fill(back, _vertebrae(chest), 62)
    _bone(pose, front, ribbons(anterior, 1.1 * width), 30, 46)
    _bone(pose, front, ribbons(chest.clavicles(), _CLAVICLE), 62, 98)
    shoulders = np.array([[-0.43, chest.anatomy.apex + 0.11], [0.43, chest.anatomy.apex + 0.11]])
    _bone(pose, front, [ellipse(shoulder, (0.042, 0.045)) for shoulder in shoulders], 60, 90)
    _bone(pose, front, _scapulae(chest), 22, 62)
    return np.asarray(cv2.add(back, front), dtype=np.uint8)


def _bone(pose: Pose, mask: Mask, outlines: list[Points] | Points, marrow: int, cortex: int) -> None:
    pose.fill(mask, outlines, marrow)
    pose.trace(mask, outlines, 0.0035, cortex, closed=True)


def _vertebrae(chest: Chest) -> Points:
    pitch = 0.062 * chest.anatomy.height / 0.62
    y = chest.anatomy.apex - 0.12 + pitch * np.arange(16.0)
    corners = np.array([[-0.030, -0.42], [0.030, -0.42], [0.026, 0.0], [0.030, 0.42], [-0.030, 0.42], [-0.026, 0.0]])
    middle = np.stack([chest.spine(y), y], axis=-1)
    outlines: Points = middle[:, None] + corners[None] * [1.0, pitch]
    return outlines


def _scapulae(chest: Chest) -> list[Points]:
    top, wall = chest.anatomy.apex, chest.anatomy.torso
    blade = np.array(
        [
            [0.36, top + 0.05],
            [0.42, top + 0.14],
            [wall + 0.01, top + 0.30],
            [wall - 0.045, top + 0.36],
            [0.33, top + 0.2],
        ]
    )
    return [closed_spline(blade * [side, 1]) for side in (-1, 1)]
