"""The features of images for drift detection: pixel statistics, features and probabilities of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.progress import track
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.score_tables import patients_of

if TYPE_CHECKING:
    from keras import Model

STATISTICS = {
    "brightness": "mean grey",
    "contrast": "standard deviation of the greys",
    "shadows": "5th percentile of the greys",
    "midtones": "median of the greys",
    "highlights": "95th percentile of the greys",
    "sharpness": "logarithm of the mean gradient",
    "noise": "standard deviation of the noise, estimated, in grey levels",
    "black_border": "share of rows and columns at the edges that are black",
    "clipped": "share of pixels that are white",
    "centre_across": "centre of the greys from left to right, 0 to 1",
    "centre_down": "centre of the greys from top to bottom, 0 to 1",
}
BLACK, WHITE = 8, 255
# Immerkaer's kernel: responds to noise, but not to linear gradients.
_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of n images, one per patient.

    Args:
        statistics: float32 [n, s], statistics of the prepared pixels in the order of ``STATISTICS``.
        features: float32 [n, d], pooled features of the network.
        probability: float64 [n, k], calibrated, in [0, 1].
        y_true: float64 [n, k], labels 1 or 0, NaN where unknown.
        source: str [n], source of each image, empty if unknown.
    """

    statistics: NDArray[np.float32]
    features: NDArray[np.float32]
    probability: NDArray[np.float64]
    y_true: NDArray[np.float64]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.statistics)

    @classmethod
    def from_rows(cls, rows: NDArray[Any]) -> Self:
        """Convert the structured array of `FeatureExtractor.extract`; labels and sources are unknown."""
        statistics, features, probability = (np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ())
        return cls(statistics, features, probability, np.full(probability.shape, np.nan), np.full(len(rows), ""))

    def take(self, index: NDArray[np.intp] | slice) -> Self:
        """Return the images at the given positions."""
        return type(self)(*(values[index] for values in vars(self).values()))

    def with_metadata(self, rows: pd.DataFrame, outputs: Sequence[str]) -> Self:
        """Add the ``source`` and, if the rows of the same images have them, the labels of the outputs."""
        labels = [f"label_{output}" for output in outputs]
        y_true = rows[labels].to_numpy("float64") if set(labels) <= set(rows.columns) else self.y_true
        return replace(self, source=rows["source"].to_numpy(np.str_), y_true=y_true)


class FeatureExtractor:
    """Computes the features and the scores of prepared images in one forward pass.

    The features are the pixel statistics, the pooled features of the network (``heads.POOLED``) and the probabilities
    that ``rule`` computes from its scores, as structured arrays of ``dtype``.
    """

    def __init__(self, model: Model, rule: DecisionRule) -> None:
        import keras

        from cxr_pipeline.training.networks.build import POOLED
        from cxr_pipeline.training.networks.views import network_of

        network = network_of(model)
        features = network.get_layer(POOLED).output
        if network is not model:  # the scores are means over several views, the features those of the image itself
            features = keras.Model(network.inputs[0], features)(model.inputs[0])
        self._network = keras.Model(model.inputs, [features, model.outputs[0]])
        self._rule = rule
        self.dtype = np.dtype(
            [
                ("statistics", np.float32, (len(STATISTICS),)),
                ("features", np.float32, (int(self._network.outputs[0].shape[-1]),)),
                ("probability", np.float64, (len(rule.outputs),)),
            ]
        )

    def extract(self, images: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.floating]]:
        """Return the features, ``dtype`` [n], and the scores [n, k] of images, uint8 [n, size, size]."""
        features = np.empty(len(images), self.dtype)
        features["statistics"] = image_statistics(images)
        features["features"], scores = self._network.predict_on_batch(images[..., np.newaxis])
        features["probability"] = self._rule.apply(np.asarray(scores, np.float64)).probability
        return features, scores


def extract_features(
    model: Model, rule: DecisionRule, batches: Iterable[NDArray[np.uint8]], *, n_images: int | None = None
) -> ImageFeatures:
    """Extract the features of batches of images, ``n_images`` in all if known; their labels and sources are unknown."""
    extractor = FeatureExtractor(model, rule)
    tracked = track(batches, "Extracting features", n_images, size=len)
    # The empty array gives the result its shape if there is no batch.
    features = [np.empty(0, extractor.dtype), *(extractor.extract(images)[0] for images in tracked)]
    return ImageFeatures.from_rows(np.concatenate(features))


def sample_one_per_patient(rows: pd.DataFrame, *, max_images: int, seed: int) -> pd.DataFrame:
    """Sample one image of each patient at random, at most ``max_images`` rows in their original order.

    The tests assume independent images. Several images of one patient are similar, and would be reported as drift. An
    image of an unknown patient counts as a separate patient.

    Example:
        >>> rows = pd.DataFrame({"source": "nih", "patient_id": ["1", "1", "2", None, None]})
        >>> len(sample_one_per_patient(rows, max_images=10, seed=0))
        4
    """
    shuffled = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    patients = patients_of(shuffled)
    if patients is not None:
        shuffled = shuffled[~patients.duplicated() | patients.isna()]
    return shuffled.head(max_images).sort_index()


def image_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the statistics, float32 [n, 11] in the order of ``STATISTICS``, of images, uint8 [n, size, size].

    The size is 3 or more. They are finite even for an image of a single grey level.

    References:
        Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64, 1996.

    Example:
        >>> grey = np.full((1, 8, 8), 90, np.uint8)
        >>> dict(zip(STATISTICS, image_statistics(grey)[0].tolist()))["brightness"]
        90.0
    """
    rows = [_statistics_of(image) for image in images]
    return np.array(rows, np.float32).reshape(len(rows), len(STATISTICS))


def _statistics_of(image: NDArray[np.uint8]) -> tuple[np.floating | float, ...]:
    grey = image.astype(np.float32)
    shadows, midtones, highlights = np.percentile(image, (5, 50, 95))
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    residual = cv2.filter2D(grey, cv2.CV_32F, _IMMERKAER)[1:-1, 1:-1]
    sharpness = np.log1p(np.hypot(across, down).mean())
    noise = np.sqrt(np.pi / 2) / 6 * np.abs(residual).mean()
    black_border = (_black_edges(image.max(axis=0)) + _black_edges(image.max(axis=1))) / 2
    clipped = (image == WHITE).mean()
    centre = _centre(grey.sum(axis=0)), _centre(grey.sum(axis=1))
    return grey.mean(), grey.std(), shadows, midtones, highlights, sharpness, noise, black_border, clipped, *centre


def _black_edges(brightest: NDArray[np.uint8]) -> float:
    """Return the share of lines before the first and after the last line that is not black."""
    bright = np.flatnonzero(brightest > BLACK)
    return 1.0 if not len(bright) else 1 - (bright[-1] - bright[0] + 1) / len(brightest)


def _centre(weights: NDArray[np.float32]) -> float:
    """Return the weighted mean position, 0 to 1; 0.5 where all weights are 0."""
    total = float(weights.sum(dtype=np.float64))
    positions = (np.arange(len(weights)) + 0.5) / len(weights)
    return float((weights * positions).sum(dtype=np.float64) / total) if total else 0.5
