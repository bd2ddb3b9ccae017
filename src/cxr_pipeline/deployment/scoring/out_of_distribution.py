"""Out-of-distribution screening of the images that are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.image_folder import ImageFile, ImageFolder
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, probability_columns
from cxr_pipeline.deployment.drift.feature_extraction import FeatureExtractor
from cxr_pipeline.deployment.drift.outliers import OutlierDetector
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring.predictions import OUT_OF_DISTRIBUTION


class Screening:
    """Screen images while they are scored, and collect the features of a sample for the drift check of the folder.

    ``out_of_distribution`` says what happens to such an image: ``flag`` scores it and gives a reason, ``refuse`` does
    not score it, ``ignore`` disables the screening. ``false_alarms`` and ``min_images`` are those of `OutlierDetector`,
    ``max_images`` and ``seed`` those of the sample.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        profile: ReferenceProfile,
        *,
        out_of_distribution: Literal["flag", "refuse", "ignore"],
        false_alarms: float,
        min_images: int,
        max_images: int,
        seed: int,
    ) -> None:
        self._classifier, self.profile = classifier, profile
        self._action, self._max_images, self._seed = out_of_distribution, max_images, seed
        self._extractor = FeatureExtractor(classifier.model, classifier.decision_rule)
        self.feature_type = self._extractor.dtype
        self.detector = OutlierDetector(profile, false_alarms=false_alarms, min_images=min_images)
        self._parameters = (out_of_distribution, false_alarms, min_images)

    @cached_property
    def settings(self) -> list[Any]:
        """Everything except image and classifier that affects a row, as JSON types."""
        digest = hashlib.sha256()
        for name, values in sorted(self.profile.to_arrays().items()):
            digest.update(name.encode() + values.tobytes())
        return [*self._parameters, digest.hexdigest()]

    def sample(self, images: ImageFolder) -> list[ImageFile]:
        """Sample the images for the drift check."""
        return images.sample(self._max_images, seed=self._seed)

    def score_batch(self, prepared: Sequence[Prepared]) -> tuple[pd.DataFrame, NDArray[Any]]:
        """Score a batch of images.

        Returns:
            The table of ``ImageClassifier.score_batch``, with the reason of out-of-distribution images; and the
            features of the n images that could be prepared, `feature_type` [n].
        """
        images = [image for image in prepared if not isinstance(image, ImageRefused)]
        if not images:
            return self._classifier.score_batch(prepared), np.empty(0, self.feature_type)
        features, scores = self._extractor.extract(np.stack(images))
        table = self._classifier.apply_rule(prepared, scores)
        if self._action == "ignore":
            return table, features
        usable = np.array([not isinstance(image, ImageRefused) for image in prepared], np.bool_)
        outlier = np.zeros(len(prepared), np.bool_)
        outlier[usable] = self.detector.is_outlier(features["statistics"], features["features"])
        table.loc[outlier, "reason"] = OUT_OF_DISTRIBUTION
        if self._action == "refuse":
            table.loc[outlier, "status"] = "refused"
            table.loc[outlier, probability_columns(self.profile.outputs)] = np.nan
            table.loc[outlier, "decision"] = None
        return table, features
