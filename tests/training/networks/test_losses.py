import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.training.networks.losses import NAMES, build_loss

LABELS = np.array([[1.0], [0.0], [0.0], [0.0]], np.float32)
SCORES = np.array([[0.7], [0.2], [0.4], [0.1]], np.float32)
KERAS_BINARY = {
    "cross_entropy": keras.losses.BinaryCrossentropy(),
    "focal": keras.losses.BinaryFocalCrossentropy(gamma=2.0),
}
KERAS_CATEGORICAL = {
    "cross_entropy": keras.losses.CategoricalCrossentropy(),
    "focal": keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0),
}
EACH = pytest.mark.parametrize("name", NAMES)

scores = st.floats(1 / 64, 63 / 64, width=32)


def mean(
    name: str, y_true: np.ndarray, y_score: np.ndarray, prevalence: object = 0.25, *, exclusive: bool = False
) -> float:
    parts = np.broadcast_to(np.asarray(prevalence, float), y_true.shape[1:])
    return float(np.mean(build_loss(name, prevalence=parts, exclusive=exclusive)(y_true, y_score)))


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (NaN where unknown), probabilities and prevalence of some images and outputs."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 4)))
    y_true = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, np.nan])))
    y_score = draw(arrays(np.float32, shape, elements=scores))
    return y_true, y_score, draw(arrays(np.float64, shape[1], elements=st.floats(0.05, 0.95)))


@st.composite
def exclusive_images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot labels, probabilities that sum to 1, and prevalence."""
    n, k = draw(st.tuples(st.integers(1, 6), st.integers(2, 5)))
    right = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    y_score, prevalence = (draw(arrays(np.float32, shape, elements=scores)) for shape in ((n, k), (k,)))
    return np.eye(k, dtype=np.float32)[right], y_score / y_score.sum(1, keepdims=True), prevalence / prevalence.sum()


def test_cross_entropy_is_the_mean_of_the_negative_log_likelihood() -> None:
    expected = -np.log([0.7, 0.8, 0.6, 0.9]).mean()
    assert mean("cross_entropy", LABELS, SCORES) == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_gives_both_values_of_a_label_the_same_say() -> None:
    of_positives, of_negatives = -np.log(0.7), -np.log([0.8, 0.6, 0.9]).mean()
    expected = (of_positives + of_negatives) / 2
    assert mean("weighted_cross_entropy", LABELS, SCORES) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(images())
def test_weighted_cross_entropy_of_a_balanced_set_is_cross_entropy(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    y_true, y_score, _ = drawn
    balanced, plain = mean("weighted_cross_entropy", y_true, y_score, 0.5), mean("cross_entropy", y_true, y_score)
    assert balanced == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_weighted_cross_entropy_of_one_class_is_finite(prevalence: float) -> None:
    y_true = np.full((2, 1), prevalence, np.float32)
    assert np.isfinite(mean("weighted_cross_entropy", y_true, SCORES[:2], prevalence))


def test_a_label_that_is_known_of_no_image_in_training_has_a_loss_in_validation() -> None:
    assert np.isfinite(mean("weighted_cross_entropy", LABELS, SCORES, np.nan))


def test_focal_loss_turns_from_what_is_right_already() -> None:
    one = np.ones((1, 1), np.float32)
    for score in (0.6, 0.9):
        expected = -((1 - score) ** 2) * np.log(score)
        assert mean("focal", one, score * one) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", KERAS_BINARY)
@settings(deadline=None, max_examples=25)
@given(drawn=images())
def test_where_all_labels_are_known_a_binary_loss_is_that_of_keras(
    name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    y_true, y_score = np.nan_to_num(drawn[0]), drawn[1]
    expected = float(KERAS_BINARY[name](y_true, y_score))
    assert mean(name, y_true, y_score) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", KERAS_CATEGORICAL)
@settings(deadline=None, max_examples=25)
@given(drawn=exclusive_images())
def test_a_categorical_loss_is_that_of_keras(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y_true, y_score, prevalence = drawn
    expected = float(KERAS_CATEGORICAL[name](y_true, y_score))
    assert mean(name, y_true, y_score, prevalence, exclusive=True) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@EACH
@settings(deadline=None, max_examples=25)
@given(drawn=images(), score=scores)
def test_what_is_unknown_adds_nothing(
    name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], score: float
) -> None:
    y_true, y_score, prevalence = drawn
    known = mean(name, y_true, y_score, prevalence)
    guessed_otherwise = np.where(np.isnan(y_true), np.float32(score), y_score)
    assert mean(name, y_true, guessed_otherwise, prevalence) == known
    of_nothing = np.full((1, y_true.shape[1]), np.nan, np.float32)
    more = np.concatenate([y_true, of_nothing]), np.concatenate([y_score, np.full_like(of_nothing, score)])
    assert mean(name, *more, prevalence) == pytest.approx(known, rel=1e-5)


@EACH
@settings(deadline=None, max_examples=25)
@given(drawn=images())
def test_every_known_label_has_the_same_say(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    y_true, y_score, prevalence = drawn
    known = np.argwhere(~np.isnan(y_true))
    assume(len(known))
    one_by_one = [
        mean(name, y_true[row : row + 1, [place]], y_score[row : row + 1, [place]], prevalence[[place]])
        for row, place in known
    ]
    assert mean(name, y_true, y_score, prevalence) == pytest.approx(np.mean(one_by_one), rel=1e-4)


@EACH
@settings(deadline=None, max_examples=15)
@given(drawn=images())
def test_what_is_unknown_has_no_gradient_and_what_is_known_has_one(
    name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    y_true, y_score, prevalence = drawn
    loss, y_pred = build_loss(name, prevalence=prevalence, exclusive=False), tf.Variable(y_score)
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(y_true, y_pred))
    gradient = np.asarray(tape.gradient(value, y_pred))
    np.testing.assert_array_equal(gradient != 0, ~np.isnan(y_true))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("exclusive", [False, True])
@EACH
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_the_order_of_outputs_does_not_matter(name: str, exclusive: bool, data: st.DataObject) -> None:
    y_true, y_score, prevalence = data.draw(exclusive_images() if exclusive else images())
    order = data.draw(st.permutations(range(len(prevalence))))
    expected = mean(name, y_true, y_score, prevalence, exclusive=exclusive)
    found = mean(name, y_true[:, order], y_score[:, order], prevalence[list(order)], exclusive=exclusive)
    assert found == pytest.approx(expected, rel=1e-4)


def test_weighted_cross_entropy_gives_all_classes_the_same_say() -> None:
    right = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    y_true, prevalence = np.eye(3, dtype=np.float32)[right], np.array([4, 1, 3]) / 8
    y_score = np.random.default_rng(0).dirichlet([1, 1, 1], size=8).astype(np.float32)
    of_images = -np.log(y_score[np.arange(8), right])
    expected = np.mean([of_images[right == place].mean() for place in range(3)])
    found = mean("weighted_cross_entropy", y_true, y_score, prevalence, exclusive=True)
    assert found == pytest.approx(expected, rel=1e-4)
    uniform = np.full((8, 3), 1 / 3, np.float32)
    weighted = mean("weighted_cross_entropy", y_true, uniform, prevalence, exclusive=True)
    assert weighted == pytest.approx(np.log(3), rel=1e-5), "the mean weight is 1"


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_unknown_loss_is_refused(exclusive: bool) -> None:
    message = r"Expected a loss among cross_entropy, weighted_cross_entropy, focal\. Received: name='bce'"
    with pytest.raises(ValueError, match=message):
        build_loss("bce", prevalence=np.array([0.5]), exclusive=exclusive)
