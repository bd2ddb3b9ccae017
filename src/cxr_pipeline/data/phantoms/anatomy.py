"""What belongs to the patient: the same on all of one's images."""

from dataclasses import dataclass

import numpy as np

from cxr_pipeline.data.phantoms.geometry import Points

_GENERATIONS = ((8, 0.30), (3, 0.20), (2, 0.14))
_POINTS_OF_A_VESSEL = 5
BRANCHES = (8, 24, 48)


@dataclass(frozen=True)
class Anatomy:
    """A patient's chest; lengths in sides of the image at magnification 1.

    Args:
        sex: ``"F"`` or ``"M"``.
        apex, height: y of the lungs' apices and the height of the lungs in full inspiration.
        widths: distance of the lateral chest wall from the mid-line, right and left lung.
        domes: height of each dome of the diaphragm above its costophrenic angle.
        heart_ratio: cardiothoracic ratio, 0.38 to 0.5 in health.
        heart_axis: 0 for an upright heart, 1 for a lying one.
        knob: how far the aortic knob stands out.
        mediastinum: half the width of the upper mediastinum.
        ribs: distance of one rib from the next, as a fraction of the lungs' height.
        rib_width: width of a rib.
        rib_slope: how far a rib falls from the spine to the chest wall.
        bone: density of bone, around 1.
        clavicle: how far the clavicle rises sideways.
        girth: thickness of the soft tissue, around 1.
        torso: half the width of the trunk below the armpits.
        breast: size of the breast shadows, 0 for none.
        breast_low: y of their centres.
        scoliosis: sideways swing of the spine.
        bubble: size of the gastric air bubble, 0 for none.
        markings: strength of the lungs' vessels and texture, around 1.
        vessels: branches of the lungs' vessels, float64 [2, n, 5, 2]: lung, branch, point, (u, v), where u runs from
            the mediastinum to the chest wall and v from the apex to the base, both 0 to 1; thick ones first, as many
            as ``BRANCHES`` says.
    """

    sex: str
    apex: float
    height: float
    widths: tuple[float, float]
    domes: tuple[float, float]
    heart_ratio: float
    heart_axis: float
    knob: float
    mediastinum: float
    ribs: float
    rib_width: float
    rib_slope: float
    bone: float
    clavicle: float
    girth: float
    torso: float
    breast: float
    breast_low: float
    scoliosis: float
    bubble: float
    markings: float
    vessels: Points


def draw_anatomy(rng: np.random.Generator, *, sex: str) -> Anatomy:
    """Draw a patient.

    Args:
        rng: where the chance comes from; equal generators give equal patients.
        sex: ``"F"`` or ``"M"``; decides the breast shadows and the build.
    """
    between = rng.uniform
    woman = sex == "F"
    width = between(0.30, 0.385) - 0.01 * woman
    dome = between(0.055, 0.115)
    return Anatomy(
        sex=sex,
        apex=between(-0.385, -0.335),
        height=between(0.57, 0.68),
        widths=(width * between(0.97, 1.04), width * between(0.96, 1.03)),
        domes=(dome * between(1.0, 1.35), dome * between(0.85, 1.2)),
        heart_ratio=between(0.38, 0.49),
        heart_axis=between(0.0, 1.0),
        knob=between(0.0, 0.022),
        mediastinum=between(0.042, 0.060),
        ribs=between(0.092, 0.108),
        rib_width=between(0.018, 0.026),
        rib_slope=between(0.10, 0.17),
        bone=between(0.7, 1.25),
        clavicle=between(-0.01, 0.06),
        girth=between(0.85, 1.25),
        torso=width + between(0.05, 0.11),
        breast=between(0.35, 1.0) if woman else max(0.0, between(-0.3, 0.35)),
        breast_low=between(0.04, 0.20),
        scoliosis=between(-0.012, 0.012),
        bubble=max(0.0, between(-0.6, 1.0)),
        markings=between(0.7, 1.3),
        vessels=_grow_vessels(rng),
    )


def _grow_vessels(rng: np.random.Generator) -> Points:
    """Branches that fan out from the hila; each generation grows from the points of the one before."""
    n_branches, _ = _GENERATIONS[0]
    fan = np.linspace(-1.35, 1.5, n_branches)
    starts = np.broadcast_to([0.10, 0.46], (2, n_branches, 2)) + rng.normal(0, 0.025, (2, n_branches, 2))
    angles = fan + rng.normal(0, 0.12, (2, n_branches))
    generations: list[Points] = []
    for generation, (children, length) in enumerate(_GENERATIONS):
        if generation:
            joints = rng.integers(1, _POINTS_OF_A_VESSEL, (2, starts.shape[1], children))
            starts = np.take_along_axis(generations[-1], joints[..., None], axis=2).reshape(2, -1, 2)
            angles = np.repeat(angles, children, axis=1) + rng.normal(0, 0.55, (2, starts.shape[1]))
        generations.append(_branches(rng, starts, angles, length))
    return np.concatenate(generations, axis=1)


def _branches(rng: np.random.Generator, starts: Points, angles: Points, length: float) -> Points:
    lengths = length * rng.uniform(0.6, 1.3, angles.shape)
    bends = angles[..., None] + np.cumsum(rng.normal(0, 0.16, (*angles.shape, _POINTS_OF_A_VESSEL - 1)), axis=-1)
    step = (lengths / (_POINTS_OF_A_VESSEL - 1))[..., None]
    # The lung is about twice as high as wide, so a step in v covers twice the distance of one in u.
    steps = np.stack([2.0 * step * np.cos(bends), step * np.sin(bends)], axis=-1)
    return np.concatenate([starts[:, :, None], starts[:, :, None] + np.cumsum(steps, axis=2)], axis=2)
