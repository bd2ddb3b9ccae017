"""Extract the features for drift detection from images, with the network of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment.drift.image_features import ImageFeatures, sample_one_per_patient
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS, image_statistics
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.training.networks.heads import POOLED

if TYPE_CHECKING:
    from keras import Model


def add_feature_output(model: Model) -> Model:
    """Return a network with the same layers that outputs the pooled features (``heads.POOLED``) and the scores."""
    return keras.Model(model.inputs, [model.get_layer(POOLED).output, model.outputs[0]])


def extract_features(model: Model, rule: DecisionRule, batches: Iterable[NDArray[np.uint8]]) -> ImageFeatures:
    """Extract the features of prepared images, uint8 [b, size, size]; ``rule`` calibrates the scores.

    Returns:
        Features without labels and sources, see `ImageFeatures.with_metadata`.

    Raises:
        UserError: The network returned NaN.
    """
    network = add_feature_output(model)
    # Empty arrays, so that the result has the right shape even without a batch.
    statistics = [np.empty((0, len(STATISTICS)), np.float32)]
    features = [np.empty((0, int(network.outputs[0].shape[-1])), np.float32)]
    probability = [np.empty((0, len(rule.outputs)))]
    for images in batches:
        pooled, scores = network.predict_on_batch(images[..., np.newaxis])
        statistics.append(image_statistics(images))
        features.append(np.asarray(pooled, np.float32))
        probability.append(rule.apply(np.asarray(scores, np.float64)).probability)
    probabilities = np.concatenate(probability)
    return ImageFeatures(
        statistics=np.concatenate(statistics),
        features=np.concatenate(features),
        probability=probabilities,
        y_true=np.full(probabilities.shape, np.nan),
        source=np.full(len(probabilities), ""),
    )


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

    Args:
        model: Network with a layer named ``heads.POOLED``.
        rule: Its decision rule.
        images: Images prepared by the model's recipe.
        manifest: Usable images with ``label_<output>`` for each output of the rule.
        splits: Split of each image.
        max_images: Largest number of training images, and of validation images; one per patient.
        batch_size: Images per batch.
        seed: Seed of the sample and of the order of the images in the profile.

    Raises:
        UserError: There is no training image, or an image is not prepared.
    """

    def extract(split: str) -> ImageFeatures:
        rows = sample_one_per_patient(select_split(manifest, splits, split), max_images=max_images, seed=seed)
        features = extract_features(model, rule, images.batches(rows["sha256"].tolist(), batch_size))
        return features.with_metadata(rows, rule.outputs)

    return ReferenceProfile.fit(extract("train"), extract("validation"), outputs=rule.outputs, seed=seed)
