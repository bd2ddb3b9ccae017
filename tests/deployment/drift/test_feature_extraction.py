import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.pixel_statistics import image_statistics
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.training.networks.heads import POOLED


def test_what_is_seen_is_what_the_network_and_the_rule_give(network, rule, images) -> None:
    labels = np.tile([[1.0], [0.0], [np.nan]], (10, 1))
    seen = observe(network, rule, (images[:20], images[20:30]), labels)
    scores = network.predict(images[:30, ..., np.newaxis], verbose=0)
    pooled = keras.Model(network.inputs, network.get_layer(POOLED).output)
    np.testing.assert_allclose(seen.probability, scores, atol=1e-6)
    np.testing.assert_allclose(seen.features, pooled.predict(images[:30, ..., np.newaxis], verbose=0), atol=1e-5)
    np.testing.assert_array_equal(seen.statistics, image_statistics(images[:30]))
    np.testing.assert_array_equal(seen.y_true, labels)


def test_probabilities_are_calibrated(network, images) -> None:
    raw = network.predict(images[:60, ..., np.newaxis], verbose=0)
    labels = (raw > np.median(raw)).astype(float)
    labels[:6] = 1 - labels[:6]
    platt = fit_decision_rule(
        labels, raw, kind="binary", classes=("a", "b"), calibration="platt", policy={"rule": "youden"}
    )
    seen = observe(network, platt, [images[:60]])
    np.testing.assert_allclose(seen.probability, platt.apply(raw.astype(float)).probability, atol=1e-6)
    assert not np.allclose(seen.probability, raw, atol=1e-2)
    assert np.isnan(seen.y_true).all()


def test_no_image_is_no_mistake(network, rule) -> None:
    seen = observe(network, rule, [])
    assert (len(seen), seen.features.shape, seen.probability.shape) == (0, (0, 24), (0, 1))


def test_a_network_that_gives_nan_is_named(rule, images, network) -> None:
    broken = keras.models.clone_model(network)
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    with pytest.raises(UserError, match="NaN"):
        observe(broken, rule, [images[:4]])
