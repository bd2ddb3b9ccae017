"""What a network makes of images, as drift is looked for in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS, image_statistics
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.training.networks.heads import POOLED

if TYPE_CHECKING:
    from keras import Model


def with_features(model: Model) -> Model:
    """Build, from the same layers, a network that gives the pooled features of images beside what the model gives.

    Args:
        model: a network with a layer ``heads.POOLED``.
    """
    return keras.Model(model.inputs, [model.get_layer(POOLED).output, model.outputs[0]])


def observe(
    model: Model, rule: DecisionRule, batches: Iterable[NDArray[np.uint8]], y_true: NDArray[np.float64] | None = None
) -> Observed:
    """Look at images, one batch after the other; no image is kept.

    Args:
        model: a network with a layer ``heads.POOLED``.
        rule: its decision rule, for the probabilities.
        batches: prepared images, uint8 [b, size, size].
        y_true: their labels [n, k]; None where none is known.

    Returns:
        what was seen; of no image the source is known.

    Raises:
        UserError: the model gave NaN.
    """
    both = with_features(model)
    n_outputs = len(rule.outputs)
    statistics = [np.empty((0, len(STATISTICS)), np.float32)]
    features = [np.empty((0, int(both.outputs[0].shape[-1])), np.float32)]
    probability = [np.empty((0, n_outputs))]
    for images in batches:
        found, scores = both.predict_on_batch(images[..., np.newaxis])
        statistics.append(image_statistics(images))
        features.append(np.asarray(found, np.float32))
        probability.append(rule.apply(np.asarray(scores, np.float64)).probability)
    probabilities = np.concatenate(probability)
    known = np.full(probabilities.shape, np.nan) if y_true is None else np.asarray(y_true, np.float64)
    unknown = np.full(len(probabilities), "")
    return Observed(np.concatenate(statistics), np.concatenate(features), probabilities, known, unknown)
