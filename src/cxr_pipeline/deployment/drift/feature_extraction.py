"""What a network makes of films, as drift is looked for in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.deployment.drift.film_features import Observed
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS, film_statistics
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.training.networks.heads import POOLED

if TYPE_CHECKING:
    from keras import Model


def with_features(model: Model) -> Model:
    """Build, from the same layers, a network that gives the pooled features of films beside what the model gives.

    Args:
        model: a network with a layer ``heads.POOLED``.
    """
    return keras.Model(model.inputs, [model.get_layer(POOLED).output, model.outputs[0]])


def observe(
    model: Model, rule: DecisionRule, batches: Iterable[NDArray[np.uint8]], y_true: NDArray[np.float64] | None = None
) -> Observed:
    """Look at films, one batch after the other; no film is kept.

    Args:
        model: a network with a layer ``heads.POOLED``.
        rule: its decision rule, for the probabilities.
        batches: prepared films, uint8 [b, size, size].
        y_true: their labels [n, k]; None where none is known.

    Returns:
        what was seen; of no film the source is known.

    Raises:
        UserError: the model gave NaN.
    """
    both = with_features(model)
    n_outputs = len(rule.outputs)
    statistics = [np.empty((0, len(STATISTICS)), np.float32)]
    features = [np.empty((0, int(both.outputs[0].shape[-1])), np.float32)]
    probability = [np.empty((0, n_outputs))]
    for films in batches:
        found, scores = both.predict_on_batch(films[..., np.newaxis])
        statistics.append(film_statistics(films))
        features.append(np.asarray(found, np.float32))
        probability.append(rule.apply(np.asarray(scores, np.float64)).probability)
    probabilities = np.concatenate(probability)
    known = np.full(probabilities.shape, np.nan) if y_true is None else np.asarray(y_true, np.float64)
    unknown = np.full(len(probabilities), "")
    return Observed(np.concatenate(statistics), np.concatenate(features), probabilities, known, unknown)
