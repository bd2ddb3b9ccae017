"""Where a classifier looks in the films that it has judged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.deployment.classifier import Film, FilmClassifier, probability_columns, threshold_columns
from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.evaluation.overlay import overlay


class HeatMaps:
    """Films with a map of the evidence laid over them.

    The network is asked about the class that is decided for; where that is none or several, about the output whose
    probability exceeds its threshold by the largest factor.

    Args:
        classifier: whose network is asked.
    """

    def __init__(self, classifier: FilmClassifier) -> None:
        self._cam = GradCam(classifier.model)
        self._outputs = classifier.decision_rule.outputs

    def draw(self, films: Sequence[Film], judged: pd.DataFrame) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """Draw films that were scored.

        Args:
            films: uint8 [size, size] each.
            judged: their rows, from ``FilmClassifier.judge``.

        Returns:
            red, green and blue, uint8 [size, size, 3], for each film.
        """
        if not films:
            return []
        maps = self._cam.heatmaps(np.stack(films), self._asked(judged))
        return [overlay(film, heatmap) for film, heatmap in zip(films, maps, strict=True)]

    def _asked(self, judged: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        probabilities = probability_columns(self._outputs)
        thresholds = threshold_columns(self._outputs)
        excess = judged[probabilities].to_numpy() / np.maximum(judged[thresholds].to_numpy(), 1e-12)
        decided = judged["decision"].map({output: place for place, output in enumerate(self._outputs)})
        return np.where(decided.isna(), excess.argmax(axis=1), decided.fillna(0)).astype(np.int64)
