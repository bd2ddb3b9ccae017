"""Detection of out-of-distribution images while they are scored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.sources.folders import ImageFolder
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, output_columns
from cxr_pipeline.deployment.drift.image_features import FeatureExtractor
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring.folder import OUT_OF_DISTRIBUTION

NEIGHBOURS = 5


class Screening:
    """Screen images while they are scored, and collect the features of a sample for the drift check of the folder.

    ``out_of_distribution`` is ``flag``: such an image is scored with a reason; ``refuse``: it is not scored; or
    ``ignore``. ``false_alarms`` and ``min_images`` are those of `OutlierDetector`, ``max_images`` and ``seed`` those of
    the sample.
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

    def sample(self, images: ImageFolder) -> list[str]:
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
            table.loc[outlier, output_columns("probability", self.profile.outputs)] = np.nan
            table.loc[outlier, "decision"] = None
        return table, features


class OutlierDetector:
    """Detect images that are farther from a model's own images than these are from each other.

    The distance of an image is that to the fifth nearest of the model's own images. Pixel statistics are compared with
    training images; network features with validation images, because the network has fitted its training images. Each
    comparison gets half of the false alarms. Its threshold is a quantile of the leave-one-out distances of the own
    images, so that at most a fraction ``false_alarms``, in (0, 1), of new in-distribution images exceeds it. With n
    images, fractions below 1 / n cannot be resolved. A comparison with less than ``min_images`` is skipped.

    References:
        Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
        Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005, for the threshold.
    """

    def __init__(self, profile: ReferenceProfile, *, false_alarms: float, min_images: int) -> None:
        self._profile = profile
        own = {"pixels": profile.training.statistics, "features": profile.held_out.features}
        self._neighbourhoods = {
            name: _Neighbourhood(images, false_alarms / len(own))
            for name, images in own.items()
            if len(images) >= max(min_images, NEIGHBOURS + 1)
        }
        # The comparisons that are made, among ``pixels`` and ``features``.
        self.compared = tuple(self._neighbourhoods)

    def is_outlier(self, statistics: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of n images are out of distribution, bool [n], by the arrays of `ImageFeatures`."""
        images = {"pixels": statistics, "features": self._profile.project(features)}
        outlier = np.zeros(len(statistics), np.bool_)
        for name, neighbourhood in self._neighbourhoods.items():
            outlier |= neighbourhood.is_outside(images[name])
        return outlier


class _Neighbourhood:
    def __init__(self, own: NDArray[np.floating], false_alarms: float) -> None:
        own = own[np.isfinite(own).all(axis=1)]
        self._scaler = StandardScaler().fit(own)
        self._nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(self._scaler.transform(own))
        # Without an argument, kneighbors excludes each image from its own neighbours.
        distances = np.sort(self._nearest.kneighbors()[0][:, -1])
        rank = math.ceil((len(own) + 1) * (1 - false_alarms))
        self._threshold = distances[min(rank, len(own)) - 1]

    def is_outside(self, images: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which images [n, c] are beyond the threshold; images with values that are not finite always are."""
        outside: NDArray[np.bool_] = np.logical_not(np.isfinite(images).all(axis=1))
        if not outside.all():
            distances, _ = self._nearest.kneighbors(self._scaler.transform(images[~outside]))
            outside[~outside] = distances[:, -1] > self._threshold
        return outside
