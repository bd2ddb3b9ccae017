"""Which images a model got wrong with most confidence.

Each ranking takes the scores [n, k], the classes of the task and the thresholds by output, and gives at most ``limit``
rows, worst first: ``position`` of the image among the scores, and its ``caption``.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.evaluation.score_tables import Scores


def two_class_mistakes(
    scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], limit: int
) -> pd.DataFrame:
    """The images farthest on the wrong side of the threshold, such as ``nofinding called effusion, 0.900``."""
    called = scores.called[:, 0].astype(int)

    def caption(image: int) -> str:
        decision = called[image]
        return f"{classes[1 - decision]} called {classes[decision]}, {scores.probability[image, 0]:.3f}"

    return _worst(_beyond_threshold(scores, thresholds)[:, 0], caption, limit)


def label_mistakes(scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], limit: int) -> pd.DataFrame:
    """The images of which a label lies farthest on the wrong side of its threshold, and which label that is."""
    distance = _beyond_threshold(scores, thresholds)
    label = distance.argmax(axis=1)

    def caption(image: int) -> str:
        column = label[image]
        verdict = "called wrongly" if scores.called[image, column] else "missed"
        return f"{scores.outputs[column]} {verdict}, {scores.probability[image, column]:.3f}"

    return _worst(distance.max(axis=1), caption, limit)


def exclusive_mistakes(
    scores: Scores, classes: Sequence[str], thresholds: Mapping[str, float], limit: int
) -> pd.DataFrame:
    """The images whose decision has most probability beyond that of their class, with the probability given to it."""
    images = np.arange(len(scores.called))
    known = ~np.isnan(scores.y_true).any(axis=1)
    true, decided = np.nan_to_num(scores.y_true).argmax(axis=1), scores.called.argmax(axis=1)
    given = scores.probability[images, decided]
    lead = given - scores.probability[images, true]

    def caption(image: int) -> str:
        return f"{scores.outputs[true[image]]} called {scores.outputs[decided[image]]}, {given[image]:.3f}"

    return _worst(np.where(known & (true != decided), lead, -np.inf), caption, limit)


def _beyond_threshold(scores: Scores, thresholds: Mapping[str, float]) -> NDArray[np.float64]:
    """How far each label [n, k] lies on the wrong side of its threshold; -inf where it is right or unknown.

    The distance is a share of the way from the threshold to the end of the scale on the image's side, so that a
    threshold far from the middle hides neither kind of mistake.
    """
    threshold = np.array([thresholds[output] for output in scores.outputs])
    room = np.where(scores.called, 1 - threshold, threshold)
    distance = np.abs(scores.probability - threshold) / np.maximum(room, np.finfo(float).tiny)
    wrong = ~np.isnan(scores.y_true) & (scores.called != (scores.y_true == 1))
    return np.where(wrong, distance, -np.inf)


def _worst(distance: NDArray[np.float64], caption: Callable[[int], str], limit: int) -> pd.DataFrame:
    wrong = np.flatnonzero(distance > -np.inf)
    worst = wrong[np.argsort(-distance[wrong], kind="stable")][:limit]
    return pd.DataFrame({"position": worst, "caption": pd.Series([caption(image) for image in worst], dtype="string")})
