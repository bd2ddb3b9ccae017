import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.training.networks.losses import NAMES, build_loss

LABELS = np.array([[1.0], [0.0], [0.0], [0.0]], np.float32)
SCORES = np.array([[0.7], [0.2], [0.4], [0.1]], np.float32)
KERAS_LOSSES = {
    ("cross_entropy", False): keras.losses.BinaryCrossentropy(),
    ("focal", False): keras.losses.BinaryFocalCrossentropy(gamma=2.0),
    ("cross_entropy", True): keras.losses.CategoricalCrossentropy(),
    ("focal", True): keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0),
}
EACH = pytest.mark.parametrize("name", NAMES)

scores = st.floats(1 / 64, 63 / 64, width=32)


def mean(name, y_true, y_score, prevalence=0.25, *, exclusive=False):
    prevalences = np.broadcast_to(np.asarray(prevalence, float), y_true.shape[1:])
    return float(np.mean(build_loss(name, prevalence=prevalences, exclusive=exclusive)(y_true, y_score)))


@st.composite
def images(draw):
    """Labels (NaN where unknown) [n, k], probabilities [n, k] and prevalences [k]."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 4)))
    y_true = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, np.nan])))
    y_score = draw(arrays(np.float32, shape, elements=scores))
    return y_true, y_score, draw(arrays(np.float64, shape[1], elements=st.floats(0.05, 0.95)))


@st.composite
def exclusive_images(draw):
    """One-hot labels [n, k], probabilities [n, k] that sum to 1, and prevalences [k]."""
    n, k = draw(st.tuples(st.integers(1, 6), st.integers(2, 5)))
    label = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    y_score, prevalence = (draw(arrays(np.float32, shape, elements=scores)) for shape in ((n, k), (k,)))
    return np.eye(k, dtype=np.float32)[label], y_score / y_score.sum(1, keepdims=True), prevalence / prevalence.sum()


@pytest.mark.parametrize(("name", "exclusive"), KERAS_LOSSES)
@given(data=st.data())
def test_a_loss_of_known_labels_is_that_of_keras(name, exclusive, data):
    y_true, y_score, prevalence = data.draw(exclusive_images() if exclusive else images())
    y_true = np.nan_to_num(y_true)
    expected = float(KERAS_LOSSES[name, exclusive](y_true, y_score))
    loss = mean(name, y_true, y_score, prevalence, exclusive=exclusive)
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_weighted_cross_entropy_weighs_both_values_of_a_label_equally():
    of_positives, of_negatives = -np.log(0.7), -np.log([0.8, 0.6, 0.9]).mean()
    expected = (of_positives + of_negatives) / 2
    assert mean("weighted_cross_entropy", LABELS, SCORES) == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_weighs_all_classes_equally():
    label = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    y_true, prevalence = np.eye(3, dtype=np.float32)[label], np.array([4, 1, 3]) / 8
    y_score = np.random.default_rng(0).dirichlet([1, 1, 1], size=8).astype(np.float32)
    of_images = -np.log(y_score[np.arange(8), label])
    expected = np.mean([of_images[label == output].mean() for output in range(3)])
    assert mean("weighted_cross_entropy", y_true, y_score, prevalence, exclusive=True) == pytest.approx(expected, 1e-4)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, np.nan])
def test_weighted_cross_entropy_is_finite_for_any_prevalence(prevalence):
    assert np.isfinite(mean("weighted_cross_entropy", LABELS, SCORES, prevalence))


@EACH
@given(batch=images())
def test_every_known_label_has_the_same_weight_and_unknown_ones_have_none(name, batch):
    y_true, y_score, prevalence = batch
    losses = [
        mean(name, y_true[row : row + 1, [output]], y_score[row : row + 1, [output]], prevalence[[output]])
        for row, output in np.argwhere(~np.isnan(y_true))
    ]
    assert mean(name, y_true, y_score, prevalence) == pytest.approx(np.mean(losses or 0), rel=1e-4)


@EACH
@given(batch=images())
def test_only_known_labels_have_a_gradient(name, batch):
    y_true, y_score, prevalence = batch
    loss, y_pred = build_loss(name, prevalence=prevalence, exclusive=False), tf.Variable(y_score)
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(y_true, y_pred))
    gradient = np.asarray(tape.gradient(value, y_pred))
    np.testing.assert_array_equal(gradient != 0, ~np.isnan(y_true))
    assert np.isfinite(gradient).all()
