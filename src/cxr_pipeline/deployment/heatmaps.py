"""Where a classifier looks in the images that it has judged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.deployment.classifier import Image, ImageClassifier, probability_columns, threshold_columns
from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.evaluation.overlay import overlay


class HeatMaps:
    """Images with a map of the evidence laid over them.

    The network is asked about the class that is decided for; where that is none or several, about the output whose
    probability exceeds its threshold by the largest factor.

    Args:
        classifier: whose network is asked.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        self._cam = GradCam(classifier.model)
        self._outputs = classifier.decision_rule.outputs

    def draw(self, images: Sequence[Image], judged: pd.DataFrame) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """Draw images that were scored.

        Args:
            images: uint8 [size, size] each.
            judged: their rows, from ``ImageClassifier.judge``.

        Returns:
            red, green and blue, uint8 [size, size, 3], for each image.
        """
        if not images:
            return []
        maps = self._cam.heatmaps(np.stack(images), self._asked(judged))
        return [overlay(image, heatmap) for image, heatmap in zip(images, maps, strict=True)]

    def _asked(self, judged: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        probabilities = probability_columns(self._outputs)
        thresholds = threshold_columns(self._outputs)
        excess = judged[probabilities].to_numpy() / np.maximum(judged[thresholds].to_numpy(), 1e-12)
        decided = judged["decision"].map({output: place for place, output in enumerate(self._outputs)})
        return np.where(decided.isna(), excess.argmax(axis=1), decided.fillna(0)).astype(np.int64)
