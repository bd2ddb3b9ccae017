"""The thresholds that make a difference on a set of images, and the choice of one.

An image is called positive where ``probability >= threshold``. Only thresholds between the images make a
difference: those midway between neighbouring probabilities, one above all and one below all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

ROUNDING = 1e-12


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold and how it came about.

    Args:
        threshold: images with at least this probability are called positive.
        met: whether the policy got what it asked for.
        message: what was reached on the validation images, and by how much a policy was missed.
    """

    threshold: float
    met: bool
    message: str


class Cuts:
    """Every threshold that makes a difference, from the highest to the lowest.

    Args:
        positive: bool [n], the labels, with images of both classes.
        probability: float64 [n], in [0, 1].

    Attributes:
        values: float64 [k - 1], the probabilities, each once, falling.
        thresholds: float64 [k], above, between and below them.
        gaps: float64 [k], the distance between the probabilities on both sides.
        true_positives, false_positives: int [k], images called positive.
        n_positive, n_negative: images of each class.
    """

    def __init__(self, positive: NDArray[np.bool_], probability: FloatArray) -> None:
        values, value_of = np.unique(-probability, return_inverse=True)
        self.values = values = -values
        found = np.bincount(value_of, weights=positive).astype(np.int64)
        called = np.bincount(value_of)
        self.true_positives = np.concatenate(([0], found.cumsum()))
        self.false_positives = np.concatenate(([0], called.cumsum())) - self.true_positives
        self.n_positive, self.n_negative = int(positive.sum()), int((~positive).sum())
        above, below = np.concatenate(([1.0], values)), np.concatenate((values, [0.0]))
        middle = (above + below) / 2
        self.thresholds = np.where(middle > below, middle, above)
        if values[0] == 1:
            self.thresholds[0] = np.nextafter(1.0, 2.0)
        self.gaps = above - below

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positive images called positive, float64 [k]."""
        return np.asarray(self.true_positives / self.n_positive)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negative images called negative, float64 [k]."""
        return np.asarray((self.n_negative - self.false_positives) / self.n_negative)

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Whether some images are called positive and some negative, bool [k]."""
        called = self.true_positives + self.false_positives
        return np.asarray((called > 0) & (called < self.n_positive + self.n_negative))

    def best(self, *objectives: ArrayLike, among: NDArray[np.bool_] | None = None) -> int:
        """The cut with the largest first objective; ties go to the next objective.

        Cuts that tie in all objectives: those that call some images positive and some negative come first,
        then the widest gap, because there the fewest new images lie close to the cut; then the lowest cut,
        because a missed finding is the worse mistake.

        Args:
            objectives: each [k].
            among: bool [k], the cuts that are allowed; all if None.

        Returns:
            The index of the cut.
        """
        left = np.flatnonzero(np.ones(len(self.gaps), dtype=bool) if among is None else among)
        for objective in (*objectives, self.mixed, self.gaps):
            values = np.asarray(objective, dtype=np.float64)[left]
            left = left[values >= values.max() - ROUNDING * max(1.0, abs(values.max()))]
        return int(left[-1])

    def describe(self, index: int, threshold: float | None = None) -> str:
        """What the cut reaches, as a sentence; ``threshold`` where another one cuts at the same place."""
        reached = (
            f"At {self.thresholds[index] if threshold is None else threshold:.4g} sensitivity is "
            f"{self.sensitivity[index]:.3f} and specificity {self.specificity[index]:.3f} on {self.n_positive} "
            f"positive and {self.n_negative} negative validation images."
        )
        return reached if self.mixed[index] else f"{reached} Every image is called {self.answer(index)}."

    def answer(self, index: int) -> str:
        """What a cut that is not mixed calls every image."""
        return "positive" if self.true_positives[index] else "negative"

    def choose(self, index: int, *reasons: str) -> ChosenThreshold:
        """The choice of a cut; it is met unless there are reasons why not."""
        return ChosenThreshold(
            float(self.thresholds[index]), met=not reasons, message=" ".join((*reasons, self.describe(index)))
        )
