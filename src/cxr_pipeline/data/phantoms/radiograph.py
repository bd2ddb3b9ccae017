"""Radiographs: position, exposure, noise and markers turn the attenuation of a chest into grey levels."""

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.data.phantoms.chest import FRAME, Anatomy, Layer, pose_chest
from cxr_pipeline.data.phantoms.findings import FINDINGS

# Ribs and vessels vanish below this size; smaller radiographs are drawn larger and averaged.
_MIN_SIDE = 96


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

    Generators in the same state give the same radiograph. Other findings change only the places of the findings.

    Returns:
        The radiograph, uint8 [size, size], at least 32 pixels wide, with dark lungs and bright bone, and the boxes of
        its findings.
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
