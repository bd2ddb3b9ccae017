import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from cxr_pipeline.evaluation.calibration import fit_calibration
from cxr_pipeline.evaluation.joint_calibration import fit_joint_calibration, joint_calibration_from_dict

FITTED = ("temperature", "platt", "isotonic")


def draw_images(n_images, *, temperature=1.0, k=4, seed=0):
    """Softmax scores whose true logits are theirs divided by the temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n_images, k))
    true = softmax(logits / temperature, axis=1)
    drawn = (rng.random((n_images, 1)) > true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return np.eye(k)[drawn], softmax(logits, axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_is_recovered(temperature):
    calibration = fit_joint_calibration("temperature", *draw_images(20_000, temperature=temperature))

    assert calibration.temperature == pytest.approx(temperature, rel=0.05)
    assert calibration.message == ""


def test_temperature_is_the_best_one():
    y_true, y_score = draw_images(300, temperature=2)
    loss = lambda temperature: log_loss(y_true, softmax(np.log(y_score) / temperature, axis=1))  # noqa: E731

    best = fit_joint_calibration("temperature", y_true, y_score).temperature

    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01), loss(1))


def test_two_classes_have_the_temperature_of_a_binary_task():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 500)
    positive = rng.random(500) < expit(logits / 2)
    joint = fit_joint_calibration(
        "temperature",
        np.column_stack((~positive, positive)).astype(float),
        np.column_stack((expit(-logits), expit(logits))),
    )

    assert joint.temperature == pytest.approx(
        fit_calibration("temperature", positive, expit(logits)).temperature, rel=1e-5
    )


def test_one_saturated_mistake_does_not_rule_the_fit():
    y_true, y_score = draw_images(2000, k=3)
    expected = fit_joint_calibration("temperature", y_true, y_score).temperature

    with_mistake = fit_joint_calibration(
        "temperature", np.vstack((y_true, [[1, 0, 0]])), np.vstack((y_score, [[0.0, 1.0, 0.0]]))
    )

    assert with_mistake.temperature == pytest.approx(expected, rel=0.05)


@given(st.integers(0, 100))
def test_temperature_keeps_the_order_of_the_classes(seed):
    y_true, y_score = draw_images(30, seed=seed)
    y_score = np.vstack((y_score, [[1.0, 0.0, 0.0, 0.0]]))
    y_true = np.vstack((y_true, [[1.0, 0.0, 0.0, 0.0]]))

    probability = fit_joint_calibration("temperature", y_true, y_score).apply(y_score)

    np.testing.assert_array_equal(probability.argsort(axis=1, kind="stable"), y_score.argsort(axis=1, kind="stable"))
    assert np.isfinite(probability).all()


@pytest.mark.parametrize("method", FITTED)
@given(seed=st.integers(0, 30))
def test_probabilities_sum_to_one(method, seed):
    images = draw_images(40, seed=seed)
    corners = np.vstack((np.eye(4), images[1]))

    probability = fit_joint_calibration(method, *images).apply(corners)

    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert (probability >= 0).all()


@pytest.mark.parametrize("method", FITTED)
def test_calibration_brings_new_images_nearer_to_frequencies(method):
    fitted_on, new = draw_images(4000, temperature=2.5, seed=1), draw_images(4000, temperature=2.5, seed=2)

    probability = fit_joint_calibration(method, *fitted_on).apply(new[1])

    assert log_loss(new[0], probability) < log_loss(new[0], new[1]) - 0.05


@pytest.mark.parametrize("method", ["none", *FITTED])
def test_round_trip_is_bitwise(method):
    images = draw_images(60)
    calibration = fit_joint_calibration(method, *images)

    restored = joint_calibration_from_dict(calibration.to_dict(()), exclusive=True)

    assert restored == calibration
    assert restored.apply(images[1]).tobytes() == calibration.apply(images[1]).tobytes()


def test_none_is_the_score():
    y_true, y_score = draw_images(20)

    probability = fit_joint_calibration("none", y_true, y_score).apply(y_score)

    assert probability.tobytes() == y_score.tobytes()
    assert probability is not y_score


@pytest.mark.parametrize("method", FITTED)
def test_images_of_one_class_leave_the_scores(method):
    y_score = draw_images(20)[1]

    calibration = fit_joint_calibration(method, np.eye(4)[[2] * 20], y_score)

    np.testing.assert_array_equal(calibration.apply(y_score), y_score)
    assert f"{method!r} was skipped" in calibration.message
    assert "found 1" in calibration.message


@pytest.mark.parametrize("method", FITTED)
def test_images_without_a_label_are_left_out(method):
    y_true, y_score = draw_images(50)
    unknown = np.vstack((y_true, np.full((1, 4), np.nan))), np.vstack((y_score, [[0.97, 0.01, 0.01, 0.01]]))

    assert fit_joint_calibration(method, *unknown) == fit_joint_calibration(method, y_true, y_score)


def test_scores_that_are_always_wrong_are_said_to_be():
    y_score = draw_images(500)[1]

    calibration = fit_joint_calibration("temperature", np.eye(4)[y_score.argmin(axis=1)], y_score)

    assert "limit of 100" in calibration.message


def test_separated_classes_leave_the_temperature_open():
    y_score = draw_images(50)[1]

    calibration = fit_joint_calibration("temperature", np.eye(4)[y_score.argmax(axis=1)], y_score)

    assert "limit of 0.05" in calibration.message
    assert joint_calibration_from_dict(calibration.to_dict(()), exclusive=True).message == calibration.message


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match="Received: method='beta'"):
        fit_joint_calibration("beta", *draw_images(20))
