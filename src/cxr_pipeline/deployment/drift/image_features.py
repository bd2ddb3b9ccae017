"""What drift is looked for in: a few arrays for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observed:
    """n images of n patients.

    Args:
        statistics: of the prepared pixels, float32 [n, s], in the order of ``pixels.STATISTICS``.
        features: the network's pooled features, float32 [n, d].
        probability: calibrated, float64 [n, k], in [0, 1].
        y_true: labels, float64 [n, k], 1 or 0, NaN where unknown.
        source: names of the images' sources, text [n], empty where unknown.

    Raises:
        ValueError: the arrays do not belong to the same images and outputs.
    """

    statistics: NDArray[np.float32]
    features: NDArray[np.float32]
    probability: Floats
    y_true: Floats
    source: NDArray[np.str_]

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in vars(self).items()}
        if len({shape[0] for shape in shapes.values()}) != 1 or self.probability.shape != self.y_true.shape:
            raise ValueError(f"Expected arrays of the same images and outputs. Received: {shapes}")

    def __len__(self) -> int:
        return len(self.statistics)


def draw_images(patients: Sequence[str | None], *, at_most: int, seed: int) -> NDArray[np.intp]:
    """Draw one image of each patient by lot.

    Images of one patient are alike: a test that takes them for independent finds drift where there is none, the more
    so the more images a patient has. With one image of each the tests need no other assumption, whatever the numbers of
    images a patient are in the reference and today; what it costs is a part of the power. An image whose patient is not
    known is taken for one of its own.

    Args:
        patients: of each image, None where not known.
        at_most: images to draw.
        seed: of the lot.

    Returns:
        Places of the images drawn, ascending.

    Example:
        >>> len(draw_images(["a", "a", "b", None, None], at_most=10, seed=0))
        4
    """
    drawn: list[int] = []
    seen: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(patients)).tolist():
        patient = patients[place]
        if patient is None or patient not in seen:
            drawn.append(place)
            seen |= {patient} if patient is not None else set()
    return np.sort(np.array(drawn[:at_most], np.intp))
