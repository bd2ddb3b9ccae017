"""Single images that are unlike those that a model comes from."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.deployment.drift.profile import Profile

NEIGHBOURS = 5

Floats = NDArray[np.floating]


class ImageLikeness:
    """Tells which images are farther from a model's own than these are from each other.

    The distance is that to the fifth nearest of the model's own images: of the statistics of the pixels to training
    images; of the network's features to validation images, since a network knows its training images by heart. Each has
    half of the false alarms. The threshold is the quantile of the own images' distances, each left out in its turn: of
    further images of the same kind no more than ``false_alarms`` lie beyond it, up to the 1 / n that n images can show.

    Args:
        profile: of the model's own images.
        false_alarms: share of images of the same kind that may be called unlike, above 0 and below 1.
        min_images: own images that a comparison needs; with fewer it is not made.

    Attributes:
        compared: what is compared: ``pixels``, ``features``, both or nothing.

    References:
        Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
        Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005, for the threshold.
    """

    def __init__(self, profile: Profile, *, false_alarms: float, min_images: int) -> None:
        self._profile = profile
        own = {"pixels": profile.statistics, "features": profile.features}
        self._near = {
            name: _Neighbourhood(images, false_alarms / len(own))
            for name, images in own.items()
            if len(images) >= max(min_images, NEIGHBOURS + 1)
        }
        self.compared = tuple(self._near)

    def unlike(self, statistics: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which of n images are unlike the model's own.

        Args:
            statistics: of the prepared pixels, float32 [n, s], in the order of ``pixels.STATISTICS``.
            features: the network's pooled features, float32 [n, d].

        Returns:
            bool [n].
        """
        images = {"pixels": statistics, "features": self._profile.project(features)}
        unlike = np.zeros(len(statistics), np.bool_)
        for name, near in self._near.items():
            unlike |= near.is_far(images[name])
        return unlike


class _Neighbourhood:
    def __init__(self, own: Floats, false_alarms: float) -> None:
        from sklearn.neighbors import NearestNeighbors

        own = own[np.isfinite(own).all(axis=1)]
        spread = own.std(axis=0)
        self._centre, self._spread = own.mean(axis=0), np.where(spread > 0, spread, 1)
        self._nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(self._standard(own))
        # Asked without images, it leaves each of its own out of its own neighbours.
        distances = np.sort(self._nearest.kneighbors()[0][:, -1])
        rank = math.ceil((len(own) + 1) * (1 - false_alarms))
        self._limit = distances[min(rank, len(own)) - 1]

    def is_far(self, images: Floats) -> NDArray[np.bool_]:
        """Tell which images [n, c] are far; one with a value that is not finite is."""
        far: NDArray[np.bool_] = np.logical_not(np.isfinite(images).all(axis=1))
        if not far.all():
            distances, _ = self._nearest.kneighbors(self._standard(images[~far]))
            far[~far] = distances[:, -1] > self._limit
        return far

    def _standard(self, images: Floats) -> Floats:
        return np.asarray((images - self._centre) / self._spread)
