"""Detection of single out-of-distribution images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

NEIGHBOURS = 5

Floats = NDArray[np.floating]


class OutlierDetector:
    """Detect images that are farther from a model's own images than these are from each other.

    The distance of an image is that to the fifth nearest of the model's own images. Pixel statistics are compared with
    training images; network features with validation images, because the network has fitted its training images. Each
    comparison gets half of the false alarms. Its threshold is a quantile of the leave-one-out distances of the own
    images, so that at most a fraction ``false_alarms`` of new in-distribution images, above 0 and below 1, exceeds it.
    With n images, fractions below 1 / n cannot be resolved. A comparison with less than ``min_images`` is skipped.

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
    def __init__(self, own: Floats, false_alarms: float) -> None:
        own = own[np.isfinite(own).all(axis=1)]
        self._scaler = StandardScaler().fit(own)
        self._nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(self._scaler.transform(own))
        # Without an argument, kneighbors excludes each image from its own neighbours.
        distances = np.sort(self._nearest.kneighbors()[0][:, -1])
        rank = math.ceil((len(own) + 1) * (1 - false_alarms))
        self._threshold = distances[min(rank, len(own)) - 1]

    def is_outside(self, images: Floats) -> NDArray[np.bool_]:
        """Return which images [n, c] are beyond the threshold; images with values that are not finite always are."""
        outside: NDArray[np.bool_] = np.logical_not(np.isfinite(images).all(axis=1))
        if not outside.all():
            distances, _ = self._nearest.kneighbors(self._scaler.transform(images[~outside]))
            outside[~outside] = distances[:, -1] > self._threshold
        return outside
