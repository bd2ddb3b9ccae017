"""Decisions on images from the probabilities of their outputs, for each kind of task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# The decision on an image without any of the labels of a multi-label task.
NONE = "none"
# With a threshold of 0, every image would be assigned to that class.
LOWEST_THRESHOLD = 1e-6


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a rule on n images.

    Args:
        probability: float64 [n, k], in [0, 1].
        predicted: bool [n, k], whether an output is predicted.
        decision: str [n], the predicted class; several labels are joined by ``|``, no label is ``none``.
    """

    probability: FloatArray
    predicted: NDArray[np.bool_]
    decision: NDArray[np.str_]


def decide_binary(probability: FloatArray, thresholds: FloatArray, classes: Sequence[str]) -> Decisions:
    """Predict the positive class if its probability is at least its threshold."""
    predicted = probability >= thresholds
    return Decisions(probability, predicted, np.array(classes)[predicted[:, 0].astype(np.intp)])


def decide_multiclass(probability: FloatArray, thresholds: FloatArray, classes: Sequence[str]) -> Decisions:
    """Predict the class whose probability exceeds its threshold by the largest factor, the first one of a tie.

    With equal thresholds this is the most probable class. With different thresholds, the sensitivity for a class can be
    below that of its threshold alone, because only one of the classes above their thresholds is predicted.
    """
    limits = np.maximum(thresholds, LOWEST_THRESHOLD)
    # These factors are exactly 1 if the thresholds are equal: rounding must not create a tie.
    chosen = (probability * (limits.min() / limits)).argmax(axis=1)
    return Decisions(probability, np.arange(len(classes)) == chosen[:, None], np.array(classes)[chosen])


def decide_multilabel(probability: FloatArray, thresholds: FloatArray, classes: Sequence[str]) -> Decisions:
    """Predict every label whose probability is at least its threshold."""
    predicted, names = probability >= thresholds, np.array(classes)
    decision = np.array(["|".join(names[row]) or NONE for row in predicted], dtype=np.str_)
    return Decisions(probability, predicted, decision)


# Probabilities [n, k], thresholds [k] and the classes of the task to decisions, by kind of task.
DECIDE: dict[str, Callable[[FloatArray, FloatArray, Sequence[str]], Decisions]] = {
    "binary": decide_binary,
    "multiclass": decide_multiclass,
    "multilabel": decide_multilabel,
}
