"""From a patient to the pixels of one image."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.data.phantoms.anatomy import Anatomy
from cxr_pipeline.data.phantoms.chest import stand
from cxr_pipeline.data.phantoms.findings import DRAW, FINDINGS, RESHAPE, Box
from cxr_pipeline.data.phantoms.geometry import Layer, Mask, Pose, enlarge, grain
from cxr_pipeline.data.phantoms.layers import Layers, bones, centre, tissue

_SMALLEST_SIDE = 128


@dataclass(frozen=True)
class Exposure:
    """How the detector and the console turn attenuation into grey.

    Args:
        gain: factor on the attenuation; a soft image has a high one.
        curve: bend of the tone curve, -0.5 to 0.5, 0 for straight.
        black, white: grey of no and of full attenuation, 0 to 255.
        blur: standard deviation of the unsharpness in sides of the image.
        noise: standard deviation of the noise in grey levels.
        sag: how much denser the bottom of the image is than its top.
        haze: amplitude of slow changes over the image.
    """

    gain: float
    curve: float
    black: float
    white: float
    blur: float
    noise: float
    sag: float
    haze: float


def draw_image(
    rng: np.random.Generator,
    *,
    size: int,
    anatomy: Anatomy,
    findings: Collection[str] = (),
    view: str = "PA",
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Draw one image of a patient.

    Equal generators give equal images. With another choice of ``findings`` all else on the image stays as it is, and
    with another ``size`` all but the noise.

    Args:
        rng: where position, exposure, noise and the findings' size and place come from.
        size: side of the image in pixels, 32 or more.
        anatomy: whose chest it is.
        findings: names from ``FINDINGS``.
        view: ``"PA"`` or ``"AP"``.

    Returns:
        The image, uint8 [size, size], dark lungs and bright bone, and the boxes of the findings in its pixels.
    """
    console, *chance = rng.spawn(1 + len(FINDINGS))
    chances = dict(zip(FINDINGS, chance, strict=True))
    chest = stand(rng, anatomy, view=view)
    for finding, reshape in RESHAPE.items():
        if finding in findings:
            chest = reshape(chances[finding], chest)
    shrink = -(-_SMALLEST_SIDE // size)
    side = -(-size * shrink // 4) * 4
    pose = _pose(rng)
    exposure = _exposure(rng)
    layers = Layers.of(chest, pose, side)
    boxes = [box for name, draw in DRAW.items() if name in findings for box in draw(chances[name], layers)]
    grey = _develop(_attenuation(rng, layers, exposure), exposure)
    image = _finish(rng, grey, size, exposure)
    _mark(console, image)
    return image, [_scale(box, size / side) for box in boxes]


def _scale(box: Box, factor: float) -> Box:
    return replace(box, x=box.x * factor, y=box.y * factor, width=box.width * factor, height=box.height * factor)


def _pose(rng: np.random.Generator) -> Pose:
    shift = (float(np.clip(rng.normal(0, 0.018), -0.04, 0.04)), float(rng.uniform(-0.03, 0.03)))
    return Pose.of(angle=float(np.clip(rng.normal(0, 0.025), -0.06, 0.06)), zoom=rng.uniform(0.90, 1.07), shift=shift)


def _exposure(rng: np.random.Generator) -> Exposure:
    return Exposure(
        gain=float(np.exp(rng.normal(0, 0.20))),
        curve=rng.uniform(-0.5, 0.35),
        black=rng.uniform(0, 26),
        white=rng.uniform(225, 275),
        blur=rng.uniform(0.0015, 0.0035),
        noise=rng.uniform(1.0, 4.5),
        sag=rng.uniform(0.1, 0.5),
        haze=rng.uniform(0.03, 0.10),
    )


def _attenuation(rng: np.random.Generator, layers: Layers, exposure: Exposure) -> Layer:
    """Sum of the layers, float32 [side, side], 0 outside the patient, about 2 below the diaphragm."""
    anatomy = layers.chest.anatomy
    middle = centre(layers)
    total = tissue(layers, sag=exposure.sag, haze=exposure.haze * grain(rng, 5))
    texture = enlarge(grain(rng, layers.side // 3), layers.side)
    lungs = _blend(texture, 0.05 * anatomy.markings, layers.vessels, anatomy.markings / 255, -0.80)
    cv2.multiply(lungs, layers.air, dst=lungs)
    behind = cv2.multiply(lungs, middle, scale=-0.60)
    _blend(total, 1, middle, 0.50)
    _blend(total, 1, lungs, 1)
    _blend(total, 1, behind, 1)
    _blend(total, 1, bones(layers), anatomy.bone / 255)
    _blend(total, 1, layers.added, 1)
    return np.maximum(total, 0, out=total)


def _blend(layer: Layer, weight: float, other: Layer | Mask, other_weight: float, offset: float = 0) -> Layer:
    """Weighted sum of a layer and a layer or mask, into the first."""
    cv2.addWeighted(layer, weight, other, other_weight, offset, dst=layer, dtype=cv2.CV_32F)
    return layer


def _develop(attenuation: Layer, exposure: Exposure) -> Layer:
    """Attenuation to grey, float32 [side, side], 0 to 1."""
    attenuation *= np.float32(-exposure.gain)
    through = np.exp(attenuation, out=attenuation)
    bend = cv2.multiply(through, through, scale=-exposure.curve)
    tone = _blend(bend, 1, through, exposure.curve - 1, 1)
    cv2.GaussianBlur(tone, (0, 0), max(exposure.blur * tone.shape[0], 0.3), dst=tone)
    return tone


def _finish(rng: np.random.Generator, grey: Layer, size: int, exposure: Exposure) -> NDArray[np.uint8]:
    """Bring to size, add noise, round to uint8 [size, size]."""
    if grey.shape[0] != size:
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
    noise = grain(rng, size)
    noise *= np.float32(exposure.noise)
    noise += np.float32(exposure.black)
    return np.asarray(cv2.addWeighted(grey, exposure.white - exposure.black, noise, 1.0, 0.0, dtype=cv2.CV_8U))


def _mark(rng: np.random.Generator, image: NDArray[np.uint8]) -> None:
    """Cut the image's edges as the collimator does, and put the side marker, an L, near its upper right corner."""
    side = image.shape[0]
    letter = np.array([[0.0, -1.0], [0.0, 0.0], [0.6, 0.0]]) * rng.uniform(0.02, 0.035)
    corner = np.array([rng.uniform(0.37, 0.45), rng.uniform(-0.44, -0.36)])
    upright = Pose.of(angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    upright.trace(image, [letter + corner], 0.006, 245)
    top, bottom, left, right = (int(cut) for cut in np.maximum(rng.uniform(-0.06, 0.03, 4), 0) * side)
    for strip in (image[:top], image[side - bottom :], image[:, :left], image[:, side - right :]):
        strip[:] = 0
