import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from cxr_pipeline.evaluation import joint_calibration
from cxr_pipeline.evaluation.calibration import fit_calibration

FITTED = ("temperature", "platt", "isotonic")


def draw_images(n_images, *, temperature=1.0, k=4, seed=0):
    """Draw one-hot labels, and softmax scores whose logits are the true ones times the temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n_images, k))
    true = softmax(logits / temperature, axis=1)
    drawn = (rng.random((n_images, 1)) > true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return np.eye(k)[drawn], softmax(logits, axis=1)


def fit(method, y_true, y_score):
    return joint_calibration.fit_joint_calibration(method, y_true, y_score, exclusive=True)


def test_temperature_minimises_the_log_loss():
    y_true, y_score = draw_images(300, temperature=2)
    loss = lambda temperature: log_loss(y_true, softmax(np.log(y_score) / temperature, axis=1))  # noqa: E731
    calibration = fit("temperature", y_true, y_score)
    best = calibration.parts[0].temperature
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01), loss(1))
    np.testing.assert_allclose(calibration.apply(y_score), softmax(np.log(y_score) / best, axis=1))
    assert calibration.message == ""


def test_one_saturated_mistake_hardly_changes_the_fit():
    y_true, y_score = draw_images(2000, k=3)
    mistake = np.vstack((y_true, [[1, 0, 0]])), np.vstack((y_score, [[0.0, 1.0, 0.0]]))
    temperature = fit("temperature", *mistake).parts[0].temperature
    expected = fit("temperature", y_true, y_score).parts[0].temperature
    assert temperature == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", ["none", *FITTED])
@settings(max_examples=15)
@given(seed=st.integers(0, 100))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_classes(method, seed):
    y_true, y_score = draw_images(40, seed=seed)
    y_true, y_score = np.vstack((y_true, np.eye(4))), np.vstack((y_score, np.eye(4)))
    probability = fit(method, y_true, y_score).apply(y_score)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert (probability >= 0).all()
    if method in ("none", "temperature"):
        np.testing.assert_array_equal(*(each.argsort(axis=1, kind="stable") for each in (probability, y_score)))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_each_class_is_calibrated_against_the_rest(method):
    y_true, y_score = draw_images(400, temperature=2.5)
    probability = fit(method, y_true, y_score).apply(y_score)
    columns = zip(y_true.T, y_score.T, strict=True)
    alone = np.stack([fit_calibration(method, true, score).apply(score) for true, score in columns], axis=1)
    np.testing.assert_allclose(probability, alone / alone.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("method", FITTED)
def test_labels_of_one_class_leave_the_scores_unchanged(method):
    y_score = draw_images(20)[1]
    calibration = fit(method, np.eye(4)[[2] * 20], y_score)
    np.testing.assert_array_equal(calibration.apply(y_score), y_score)
    assert f"{method!r} was skipped" in calibration.message
    assert "found 1" in calibration.message
    assert "skipped" not in fit(method, np.eye(4)[[1, 2] * 10], y_score).message


@pytest.mark.parametrize("method", FITTED)
def test_images_with_unknown_labels_are_left_out(method):
    y_true, y_score = draw_images(50)
    unknown = np.vstack((y_true, np.full((1, 4), np.nan))), np.vstack((y_score, [[0.97, 0.01, 0.01, 0.01]]))
    assert fit(method, *unknown) == fit(method, y_true, y_score)


@pytest.mark.parametrize(("right", "limit"), [(np.argmin, "limit of 100"), (np.argmax, "limit of 0.05")])
def test_a_temperature_at_its_limit_has_a_message(right, limit):
    y_score = draw_images(200)[1]
    calibration = fit("temperature", np.eye(4)[right(y_score, axis=1)], y_score)
    assert limit in calibration.message
    assert joint_calibration.joint_calibration_from_dict(calibration.to_dict(()), exclusive=True) == calibration
