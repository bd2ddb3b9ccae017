"""The operating points of an output on a set of images.

An image is predicted positive if ``probability >= threshold``. Thresholds between the same two neighbouring
probabilities give the same decisions, so that one per gap is enough: the middle of the gap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

ROUNDING = 1e-12


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold and how it was chosen.

    Args:
        threshold: images with at least this probability are predicted positive.
        policy_met: whether the policy reached its target.
        message: sensitivity and specificity on the validation images, and why a policy was not met.
    """

    threshold: float
    policy_met: bool
    message: str


class OperatingPoints:
    """All operating points of an output, from the highest threshold to the lowest.

    They follow from labels of both classes, bool [n], and probabilities in [0, 1], float64 [n].

    Attributes:
        values: float64 [k - 1], the distinct probabilities, decreasing.
        thresholds: float64 [k], above, between and below them.
        gaps: float64 [k], the distance between the neighbouring probabilities.
        true_positives, false_positives: int [k].
        n_positive, n_negative: images of each class.
    """

    def __init__(self, positive: NDArray[np.bool_], probability: FloatArray) -> None:
        negated, value_of = np.unique(-probability, return_inverse=True)
        self.values = values = -negated
        n_positive_at = np.bincount(value_of, weights=positive).astype(np.int64)
        self.true_positives = np.concatenate(([0], n_positive_at.cumsum()))
        self.false_positives = np.concatenate(([0], np.bincount(value_of).cumsum())) - self.true_positives
        self.n_positive, self.n_negative = int(positive.sum()), int((~positive).sum())
        above, below = np.concatenate(([1.0], values)), np.concatenate((values, [0.0]))
        middle = (above + below) / 2
        # The middle of two neighbouring floats can round down to the lower one, which is then predicted positive.
        self.thresholds = np.where(middle > below, middle, above)
        if values[0] == 1:
            self.thresholds[0] = np.nextafter(1.0, 2.0)
        self.gaps = above - below

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positive images that are predicted positive, float64 [k]."""
        return np.asarray(self.true_positives / self.n_positive)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negative images that are predicted negative, float64 [k]."""
        return np.asarray((self.n_negative - self.false_positives) / self.n_negative)

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Whether some images are predicted positive and some negative, bool [k]."""
        n_predicted = self.true_positives + self.false_positives
        return np.asarray((n_predicted > 0) & (n_predicted < self.n_positive + self.n_negative))

    def best(self, *objectives: ArrayLike, among: NDArray[np.bool_] | None = None) -> int:
        """Return the index of the point with the largest first objective; ties are resolved by the next objective.

        Among points that tie in all objectives, those with both decisions come first, then the widest gap, because the
        fewest new images lie close to such a threshold, then the lowest threshold, because a missed finding is the
        worse error. Objectives are [k]; ``among``, bool [k], are the allowed points.
        """
        candidates = np.flatnonzero(np.ones(len(self.gaps), dtype=bool) if among is None else among)
        for objective in (*objectives, self.mixed, self.gaps):
            values = np.asarray(objective, dtype=np.float64)[candidates]
            candidates = candidates[values >= values.max() - ROUNDING * max(1.0, abs(values.max()))]
        return int(candidates[-1])

    def describe(self, index: int, threshold: float | None = None) -> str:
        """Describe a point in a sentence; ``threshold`` replaces its threshold by another one in the same gap."""
        threshold = self.thresholds[index] if threshold is None else threshold
        sentence = (
            f"At {threshold:.4g} sensitivity is {self.sensitivity[index]:.3f} and specificity "
            f"{self.specificity[index]:.3f} on {self.n_positive} positive and {self.n_negative} negative validation "
            "images."
        )
        return sentence if self.mixed[index] else f"{sentence} Every image is predicted {self.prediction(index)}."

    def prediction(self, index: int) -> str:
        """Return the prediction of a point that predicts the same for every image."""
        return "positive" if self.true_positives[index] else "negative"

    def choose(self, index: int, *reasons: str, warning: str = "") -> ChosenThreshold:
        """Return the threshold of a point. The policy counts as met unless there are reasons why not."""
        message = " ".join(filter(None, (*reasons, self.describe(index), warning)))
        return ChosenThreshold(float(self.thresholds[index]), policy_met=not reasons, message=message)
