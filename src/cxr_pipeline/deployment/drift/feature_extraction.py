"""Extract the features for drift detection from images, with the network of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment.drift.image_features import (
    STATISTICS,
    ImageFeatures,
    image_statistics,
    sample_one_per_patient,
)
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.training.networks.heads import POOLED

if TYPE_CHECKING:
    from keras import Model


class FeatureExtractor:
    """Computes the features and the scores of prepared images in one forward pass.

    The features are the pixel statistics, the pooled features of the network (``heads.POOLED``) and the probabilities
    that ``rule`` computes from its scores, as structured arrays of ``dtype``.
    """

    def __init__(self, model: Model, rule: DecisionRule) -> None:
        self._network = keras.Model(model.inputs, [model.get_layer(POOLED).output, model.outputs[0]])
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


def extract_features(model: Model, rule: DecisionRule, batches: Iterable[NDArray[np.uint8]]) -> ImageFeatures:
    """Extract the features of batches of images; their labels and sources are unknown."""
    extractor = FeatureExtractor(model, rule)
    # The empty array gives the result its shape if there is no batch.
    features = [np.empty(0, extractor.dtype), *(extractor.extract(images)[0] for images in batches)]
    return ImageFeatures.from_rows(np.concatenate(features))


def build_reference_profile(
    model: Model,
    rule: DecisionRule,
    images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    max_images: int,
    batch_size: int,
    seed: int,
) -> ReferenceProfile:
    """Build the reference profile of the training and validation images of a model.

    At most ``max_images`` of each are used, one per patient. They must be prepared by the model's recipe, and the
    manifest needs ``label_<output>`` for each output of the rule. The seed decides the sample and its order.

    Raises:
        UserError: There is no training image, or an image is not prepared.
    """

    def extract(split: str) -> ImageFeatures:
        rows = sample_one_per_patient(select_split(manifest, splits, split), max_images=max_images, seed=seed)
        features = extract_features(model, rule, images.batches(rows["sha256"].tolist(), batch_size))
        return features.with_metadata(rows, rule.outputs)

    return ReferenceProfile.fit(extract("train"), extract("validation"), outputs=rule.outputs, seed=seed)
