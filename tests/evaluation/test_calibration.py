import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.calibration import METHODS, calibration_from_dict, fit_calibration

FITTED = ("temperature", "platt", "isotonic")


def draw_images(n_images, *, slope=1.0, intercept=0.0):
    """Draw labels, and scores whose true probability is expit(slope * logit + intercept)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, n_images)
    return (rng.random(n_images) < expit(slope * logits + intercept)).astype(float), expit(logits)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(-4000, 4000)), max_size=40))
def test_order_is_kept_strictly_and_also_after_saving(method, images):
    y_true, logits = np.array([(0.0, 4000), (1.0, -4000), *images]).T
    y_score = expit(logits.astype(np.float32) / 100)  # float32 scores, saturated ones included

    calibration = fit_calibration(method, y_true, y_score)

    probability = calibration.apply(y_score)
    np.testing.assert_array_equal(rankdata(probability), rankdata(y_score))
    if method == "none":
        np.testing.assert_array_equal(probability, y_score.astype(np.float64))
    else:
        assert ((probability > 0) & (probability < 1)).all()
    assert calibration_from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False))) == calibration


def test_temperature_minimises_the_log_loss():
    y_true, y_score = draw_images(300, slope=0.5)
    loss = lambda temperature: log_loss(y_true, expit(logit(y_score) / temperature))  # noqa: E731
    calibration = fit_calibration("temperature", y_true, y_score)
    best = calibration.temperature
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01), loss(1))
    np.testing.assert_allclose(calibration.apply(y_score), expit(logit(y_score) / best), atol=1e-6)
    assert calibration.message == ""


def test_platt_fits_its_smoothed_targets():
    y_true, y_score = draw_images(60, slope=0.7, intercept=0.5)
    n_positive, n_negative = y_true.sum(), (1 - y_true).sum()
    target = np.where(y_true == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    calibration = fit_calibration("platt", y_true, y_score)

    fitted = expit(calibration.slope * logit(y_score) + calibration.intercept)
    assert (fitted - target).sum() == pytest.approx(0, abs=1e-6)
    assert ((fitted - target) * logit(y_score)).sum() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(calibration.apply(y_score), fitted, atol=1e-6)
    separated = fit_calibration("platt", [0] * 5 + [1] * 5, np.linspace(0.01, 0.99, 10))
    assert separated.apply(0.99) < 0.99


def test_isotonic_is_that_of_scikit_learn():
    y_true, y_score = draw_images(500, slope=0.6)
    expected = IsotonicRegression(out_of_bounds="clip").fit(y_score, y_true)
    new_scores = np.linspace(0, 1, 201)
    probability = fit_calibration("isotonic", y_true, y_score).apply(new_scores)
    np.testing.assert_allclose(probability, expected.predict(new_scores), atol=1e-5)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_one_saturated_mistake_hardly_changes_the_fit(method):
    y_true, y_score = draw_images(2000)
    with_mistake = fit_calibration(method, np.append(y_true, 1), np.append(y_score, 0.0))
    expected = fit_calibration(method, y_true, y_score).apply(0.9)
    assert with_mistake.apply(0.9) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("method", "message"),
    [("temperature", "limit of 100"), ("platt", "slope of -"), ("isotonic", "is constant")],
)
def test_scores_that_rank_images_wrongly_are_not_reversed(method, message):
    y_true, y_score = draw_images(1000, slope=-0.5, intercept=-0.5)

    calibration = fit_calibration(method, y_true, y_score)

    assert message in calibration.message
    probability = calibration.apply(np.linspace(0.001, 0.999, 50))
    assert (np.diff(probability) > 0).all()
    expected = 0.5 if method == "temperature" else y_true.mean()
    np.testing.assert_allclose(probability, expected, atol=0.02)
    separated = fit_calibration("temperature", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert "limit of 0.05" in calibration_from_dict(separated.to_dict()).message


@pytest.mark.parametrize("method", FITTED)
@pytest.mark.parametrize("y_true", [[1, 1, np.nan], [0, 0, np.nan], [np.nan] * 3])
def test_labels_of_one_class_leave_the_scores_unchanged(method, y_true):
    calibration = fit_calibration(method, y_true, [0.2, 0.4, 0.9])
    np.testing.assert_array_equal(calibration.apply([0.2, 0.4]), [0.2, 0.4])
    assert f"{method!r} was skipped: it needs validation images of both classes" in calibration.message


def test_unknown_methods_and_nan_scores_are_rejected():
    with pytest.raises(ValueError, match="none, temperature, platt, isotonic"):
        fit_calibration("beta", [0, 1], [0.1, 0.9])
    with pytest.raises(UserError, match="NaN"):
        fit_calibration("platt", [0, 1], [0.1, np.nan])
