import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.calibration import METHODS, calibration_from_dict, fit_calibration

FITTED = ("temperature", "platt", "isotonic")


def draw_images(n_images, *, slope=1.0, intercept=0.0, seed=0):
    """Scores whose true probability is expit(slope * logit + intercept)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n_images)
    y_true = (rng.random(n_images) < expit(slope * logits + intercept)).astype(float)
    return y_true, expit(logits)


def through_json(calibration):
    return calibration_from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False)))


@st.composite
def network_outputs(draw):
    """Float32 sigmoid outputs, saturated ones included, with labels of both classes."""
    logits = draw(st.lists(st.integers(-4000, 4000), min_size=2, max_size=40))
    y_true = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(logits), max_size=len(logits)))
    y_true[:2] = [0.0, 1.0]
    return np.array(y_true), expit(np.array(logits, dtype=np.float32) / 100)


@pytest.mark.parametrize("method", METHODS)
@given(images=network_outputs())
def test_order_is_kept_strictly(method, images):
    y_true, y_score = images

    probability = fit_calibration(method, y_true, y_score).apply(y_score)

    assert ((probability >= 0) & (probability <= 1)).all()
    rank = lambda values: np.unique(values, return_inverse=True)[1].tolist()  # noqa: E731
    assert rank(probability) == rank(y_score)
    assert roc_auc_score(y_true, probability) == roc_auc_score(y_true, y_score)


@pytest.mark.parametrize("method", METHODS)
@given(images=network_outputs())
def test_round_trip_is_bitwise(method, images):
    calibration = fit_calibration(method, *images)
    restored = through_json(calibration)
    new_scores = np.concatenate((np.linspace(0, 1, 101), images[1]))

    assert restored == calibration
    assert restored.apply(new_scores).tobytes() == calibration.apply(new_scores).tobytes()


@pytest.mark.parametrize("method", FITTED)
def test_fitted_probabilities_lie_inside_and_scores_need_not(method):
    calibration = fit_calibration(method, [0, 0, 1, 0, 1, 1], [0.0, 0.1, 0.3, 0.6, 0.8, 1.0])

    probability = calibration.apply([0.0, 1e-30, 0.5, 1 - 1e-7, 1.0])

    assert 0 < probability[0] < probability[1]
    assert probability[-2] < probability[-1] < 1


def test_none_is_the_score():
    y_score = np.array([0.0, 0.3, 1.0], dtype=np.float32)

    calibration = fit_calibration("none", [0, 0, 1], y_score)

    np.testing.assert_array_equal(calibration.apply(y_score), y_score.astype(np.float64))
    assert calibration.to_dict() == {"method": "none", "message": ""}


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_is_recovered(temperature):
    calibration = fit_calibration("temperature", *draw_images(40_000, slope=1 / temperature))

    assert calibration.temperature == pytest.approx(temperature, rel=0.05)
    assert calibration.message == ""


def test_temperature_is_the_best_one():
    y_true, y_score = draw_images(300, slope=0.5)
    loss = lambda temperature: log_loss(y_true, expit(np.log(y_score / (1 - y_score)) / temperature))  # noqa: E731

    best = fit_calibration("temperature", y_true, y_score).temperature

    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01), loss(1))


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_one_saturated_mistake_does_not_rule_the_fit(method):
    y_true, y_score = draw_images(2000)
    expected = fit_calibration(method, y_true, y_score).apply(0.9)

    with_mistake = fit_calibration(method, np.append(y_true, 1), np.append(y_score, 0.0))

    assert with_mistake.apply(0.9) == pytest.approx(expected, abs=0.02)


def test_platt_is_recovered():
    calibration = fit_calibration("platt", *draw_images(40_000, slope=0.6, intercept=-1.2))

    assert (calibration.slope, calibration.intercept) == pytest.approx((0.6, -1.2), abs=0.05)


def test_platt_fits_its_smoothed_targets():
    y_true, y_score = draw_images(60, slope=0.7, intercept=0.5)
    n_positive, n_negative = y_true.sum(), (1 - y_true).sum()
    target = np.where(y_true == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    calibration = fit_calibration("platt", y_true, y_score)

    logits = np.log(y_score / (1 - y_score))
    residual = target - expit(calibration.slope * logits + calibration.intercept)
    assert residual.sum() == pytest.approx(0, abs=1e-6)
    assert (residual * logits).sum() == pytest.approx(0, abs=1e-6)


def test_platt_is_finite_where_classes_are_separated():
    calibration = fit_calibration("platt", [0] * 5 + [1] * 5, np.linspace(0.01, 0.99, 10))

    assert calibration.apply([0.99])[0] < 0.99


def test_isotonic_is_that_of_scikit_learn():
    y_true, y_score = draw_images(500, slope=0.6)
    expected = IsotonicRegression(out_of_bounds="clip").fit(y_score, y_true)
    new_scores = np.linspace(0, 1, 201)

    probability = fit_calibration("isotonic", y_true, y_score).apply(new_scores)

    np.testing.assert_allclose(probability, expected.predict(new_scores), atol=1e-5)


@pytest.mark.parametrize("method", FITTED)
def test_calibration_brings_new_images_nearer_to_frequencies(method):
    fitted_on, new = draw_images(4000, slope=0.4, seed=1), draw_images(4000, slope=0.4, seed=2)

    probability = fit_calibration(method, *fitted_on).apply(new[1])

    assert log_loss(new[0], probability) < log_loss(new[0], new[1]) - 0.05


@pytest.mark.parametrize(
    ("method", "message"),
    [("temperature", "limit of 100"), ("platt", "slope of -"), ("isotonic", "is constant")],
)
def test_falling_scores_are_not_turned_round(method, message):
    y_true, y_score = draw_images(1000, slope=-0.5, intercept=-0.5)

    calibration = fit_calibration(method, y_true, y_score)
    probability = calibration.apply(np.linspace(0.001, 0.999, 50))

    assert message in calibration.message
    assert (np.diff(probability) > 0).all()
    assert np.ptp(probability) < 0.05


def test_flat_platt_is_at_the_prevalence():
    y_true, y_score = draw_images(1000, slope=-0.5, intercept=-0.5)

    assert fit_calibration("platt", y_true, y_score).apply(0.5) == pytest.approx(y_true.mean(), abs=0.005)


def test_separated_classes_leave_the_temperature_open():
    calibration = fit_calibration("temperature", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])

    assert "limit of 0.05" in calibration.message
    assert through_json(calibration).message == calibration.message


@pytest.mark.parametrize("method", FITTED)
@pytest.mark.parametrize("y_true", [[1, 1, np.nan], [0, 0, np.nan], [np.nan] * 3])
def test_one_class_is_left_as_it_is(method, y_true):
    calibration = fit_calibration(method, y_true, [0.2, 0.4, 0.9])

    np.testing.assert_array_equal(calibration.apply([0.2, 0.4]), [0.2, 0.4])
    assert method in calibration.message
    assert "both classes" in calibration.message


def test_unknown_labels_are_left_out():
    y_true, y_score = draw_images(50)

    with_unknown = fit_calibration("platt", np.append(y_true, np.nan), np.append(y_score, 0.999))

    assert with_unknown == fit_calibration("platt", y_true, y_score)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="none, temperature, platt, isotonic"):
        fit_calibration("beta", [0, 1], [0.1, 0.9])
    with pytest.raises(UserError, match="NaN"):
        fit_calibration("platt", [0, 1], [0.1, np.nan])
