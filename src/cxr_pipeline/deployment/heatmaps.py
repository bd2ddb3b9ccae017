"""Grad-CAM heat maps of a classifier's predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.deployment.classifier import Image, ImageClassifier, probability_columns, threshold_columns
from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.evaluation.overlay import overlay


class HeatMaps:
    """Draws images overlaid with heat maps of a classifier's network.

    The map explains the predicted class. If that is none or several, it explains the output whose probability exceeds
    its threshold by the largest factor.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        self._cam = GradCam(classifier.model)
        self._outputs = classifier.decision_rule.outputs

    def draw(self, images: Sequence[Image], table: pd.DataFrame) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """Draw images, uint8 [size, size] each, whose rows from ``ImageClassifier.score_batch`` are ``table``.

        Returns:
            RGB, uint8 [size, size, 3], for each image.
        """
        if not images:
            return []
        maps = self._cam.heatmaps(np.stack(images), self._explained_outputs(table))
        return [overlay(image, heatmap) for image, heatmap in zip(images, maps, strict=True)]

    def _explained_outputs(self, table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        probabilities = probability_columns(self._outputs)
        thresholds = threshold_columns(self._outputs)
        excess = table[probabilities].to_numpy() / np.maximum(table[thresholds].to_numpy(), 1e-12)
        decided = table["decision"].map({output: place for place, output in enumerate(self._outputs)})
        return np.where(decided.isna(), excess.argmax(axis=1), decided.fillna(0)).astype(np.int64)
