"""From a patient to the pixels of one film."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.phantoms.anatomy import Anatomy
from cxr_pipeline.phantoms.chest import stand
from cxr_pipeline.phantoms.findings import DRAW, FINDINGS, RESHAPE, Box
from cxr_pipeline.phantoms.geometry import Layer, Pose, enlarge
from cxr_pipeline.phantoms.layers import Layers, airways, bones, centre, tissue

_SMALLEST_SIDE = 128


@dataclass(frozen=True)
class Exposure:
    """How the detector and the console turn attenuation into grey.

    Args:
        gain: factor on the attenuation; a soft film has a high one.
        curve: bend of the tone curve, -0.5 to 0.5, 0 for straight.
        black, white: grey of no and of full attenuation, 0 to 255.
        blur: standard deviation of the unsharpness in sides of the film.
        noise: standard deviation of the noise in grey levels.
        sag: how much denser the bottom of the film is than its top.
        haze: amplitude of slow changes over the film.
    """

    gain: float
    curve: float
    black: float
    white: float
    blur: float
    noise: float
    sag: float
    haze: float


def draw_film(
    rng: np.random.Generator,
    *,
    size: int,
    anatomy: Anatomy,
    findings: Collection[str] = (),
    view: str = "PA",
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Draw one film of a patient.

    Equal generators give equal films; with another choice of ``findings`` all else on the film stays as it is.

    Args:
        rng: where position, exposure, noise and the findings' size and place come from.
        size: side of the film in pixels, 32 or more.
        anatomy: whose chest it is.
        findings: names from ``FINDINGS``.
        view: ``"PA"`` or ``"AP"``.

    Returns:
        The film, uint8 [size, size], dark lungs and bright bone, and the boxes of the findings in its pixels.
    """
    chances = dict(zip(FINDINGS, rng.spawn(len(FINDINGS)), strict=True))
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
    grey = _develop(rng, _attenuation(rng, layers, exposure), exposure)
    film = _finish(rng, grey, size, exposure)
    return film, [_scale(box, size / side) for box in boxes]


def _scale(box: Box, factor: float) -> Box:
    return replace(
        box, x=box.x * factor, y=box.y * factor, width=box.width * factor, height=box.height * factor
    )


def _pose(rng: np.random.Generator) -> Pose:
    shift = (float(np.clip(rng.normal(0, 0.018), -0.04, 0.04)), float(rng.uniform(-0.03, 0.03)))
    return Pose.of(angle=float(np.clip(rng.normal(0, 0.025), -0.06, 0.06)), zoom=rng.uniform(0.90, 1.07), shift=shift)


def _exposure(rng: np.random.Generator) -> Exposure:
    return Exposure(
        gain=float(np.exp(rng.normal(0, 0.22))),
        curve=rng.uniform(-0.5, 0.35),
        black=rng.uniform(0, 26),
        white=rng.uniform(225, 275),
        blur=rng.uniform(0.0015, 0.0035),
        noise=rng.uniform(1.5, 5.0),
        sag=rng.uniform(0.1, 0.5),
        haze=rng.uniform(0.03, 0.10),
    )


def _attenuation(rng: np.random.Generator, layers: Layers, exposure: Exposure) -> Layer:
    """Sum of the layers, float32 [side, side], 0 outside the patient, about 2 below the diaphragm."""
    side, markings = layers.side, np.float32(layers.chest.anatomy.markings)
    middle = centre(layers)
    coarse = rng.standard_normal((side // 3, side // 3), dtype=np.float32)
    texture = enlarge(coarse, side)
    slow = rng.standard_normal((5, 5), dtype=np.float32)
    haze = cv2.resize(slow, (side, side), interpolation=cv2.INTER_CUBIC)
    total = tissue(layers, exposure.sag)
    total += np.float32(0.58) * middle
    total += np.float32(exposure.haze) * haze * total
    air = layers.air * (1 - np.float32(0.60) * middle)
    total += air * (markings * (np.float32(1 / 255) * layers.vessels + np.float32(0.045) * texture) - np.float32(0.80))
    total -= np.float32(0.38) * airways(layers)
    total += bones(layers)
    total += layers.added
    return np.maximum(total, 0, out=total)


def _develop(rng: np.random.Generator, attenuation: Layer, exposure: Exposure) -> Layer:
    """Attenuation to grey, float32 [side, side], 0 to 1."""
    tone = 1 - np.exp(np.float32(-exposure.gain) * attenuation)
    tone += np.float32(exposure.curve) * tone * (1 - tone)
    return np.asarray(cv2.GaussianBlur(tone, (0, 0), max(exposure.blur * tone.shape[0], 0.3)), dtype=np.float32)


def _finish(rng: np.random.Generator, grey: Layer, size: int, exposure: Exposure) -> NDArray[np.uint8]:
    """Bring to size, put the marker on, add noise, round to uint8 [size, size]."""
    if grey.shape[0] != size:
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    noise *= np.float32(exposure.noise)
    noise += np.float32(exposure.black)
    film = np.asarray(cv2.addWeighted(grey, exposure.white - exposure.black, noise, 1.0, 0.0, dtype=cv2.CV_8U))
    _mark(rng, film)
    return film


def _mark(rng: np.random.Generator, film: NDArray[np.uint8]) -> None:
    """Cut the film's edges as the collimator does, and put the side marker, an L, near its upper right corner."""
    side = film.shape[0]
    letter = np.array([[0.0, -1.0], [0.0, 0.0], [0.6, 0.0]]) * rng.uniform(0.02, 0.035)
    corner = np.array([rng.uniform(0.37, 0.45), rng.uniform(-0.44, -0.36)])
    upright = Pose.of(angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    upright.trace(film, [letter + corner], 0.006, 245)
    top, bottom, left, right = (int(cut) for cut in np.maximum(rng.uniform(-0.06, 0.03, 4), 0) * side)
    for strip in (film[:top], film[side - bottom :], film[:, :left], film[:, side - right :]):
        strip[:] = 0
