import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from scipy.stats import rankdata
from sklearn.metrics import log_loss

from cxr_pipeline.evaluation.calibration import calibration_from_dict, fit_calibration

FITTED = ("temperature", "platt")


def draw_images(n_images, *, slope=1.0, intercept=0.0):
    """Draw labels, and scores whose true probability is expit(slope * logit + intercept)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, n_images)
    return (rng.random(n_images) < expit(slope * logits + intercept)).astype(float), expit(logits)


def draw_classes(n_images, *, temperature=1.0, k=4, seed=0):
    """Draw one-hot labels, and softmax scores whose logits are the true ones times the temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n_images, k))
    true = softmax(logits / temperature, axis=1)
    drawn = (rng.random((n_images, 1)) > true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return np.eye(k)[drawn], softmax(logits, axis=1)


def fit(method, y_true, y_score):
    """Fit the calibration of a single output."""
    columns = (np.asarray(values, float)[:, None] for values in (y_true, y_score))
    return fit_calibration(method, *columns, exclusive=False)


def fit_classes(method, y_true, y_score):
    return fit_calibration(method, y_true, y_score, exclusive=True)


def apply(calibration, y_score):
    return calibration.apply(np.atleast_1d(np.asarray(y_score, float))[:, None])[:, 0]


def restored(calibration, *, exclusive):
    saved = json.loads(json.dumps(calibration.to_dict(("a",)), allow_nan=False))
    return calibration_from_dict(saved, exclusive=exclusive)


@pytest.mark.parametrize("method", ["none", *FITTED])
@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(-4000, 4000)), max_size=40))
def test_order_is_kept_strictly_and_also_after_saving(method, images):
    y_true, logits = np.array([(0.0, 4000), (1.0, -4000), *images]).T
    y_score = expit(logits.astype(np.float32) / 100)  # float32 scores, saturated ones included

    calibration = fit(method, y_true, y_score)

    probability = apply(calibration, y_score)
    np.testing.assert_array_equal(rankdata(probability), rankdata(y_score))
    if method == "none":
        np.testing.assert_array_equal(probability, y_score.astype(np.float64))
    else:
        assert ((probability > 0) & (probability < 1)).all()
    assert restored(calibration, exclusive=False) == calibration


@pytest.mark.parametrize("exclusive", [False, True])
def test_temperature_minimises_the_log_loss(exclusive):
    y_true, y_score = draw_classes(300, temperature=2) if exclusive else draw_images(300, slope=0.5)

    def scaled(temperature):
        return softmax(np.log(y_score) / temperature, axis=1) if exclusive else expit(logit(y_score) / temperature)

    calibration = (fit_classes if exclusive else fit)("temperature", y_true, y_score)
    best = calibration.parts[0].fitted["temperature"]
    lowest, *others = (log_loss(y_true, scaled(temperature)) for temperature in (best, best * 1.01, best / 1.01, 1))
    assert lowest < min(others)
    probability = calibration.apply(y_score) if exclusive else apply(calibration, y_score)
    np.testing.assert_allclose(probability, scaled(best), atol=1e-6)
    assert (calibration.message if exclusive else calibration.message_of(0)) == ""


def test_platt_fits_its_smoothed_targets():
    y_true, y_score = draw_images(60, slope=0.7, intercept=0.5)
    n_positive, n_negative = y_true.sum(), (1 - y_true).sum()
    target = np.where(y_true == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    calibration = fit("platt", y_true, y_score)

    line = calibration.parts[0].fitted
    probability = expit(line["slope"] * logit(y_score) + line["intercept"])
    assert (probability - target).sum() == pytest.approx(0, abs=1e-6)
    assert ((probability - target) * logit(y_score)).sum() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(apply(calibration, y_score), probability, atol=1e-6)
    separated = fit("platt", [0] * 5 + [1] * 5, np.linspace(0.01, 0.99, 10))
    assert apply(separated, 0.99) < 0.99


@pytest.mark.parametrize("method", FITTED)
def test_one_saturated_mistake_hardly_changes_the_fit(method):
    y_true, y_score = draw_images(2000)
    with_mistake = fit(method, np.append(y_true, 1), np.append(y_score, 0.0))
    assert apply(with_mistake, 0.9) == pytest.approx(apply(fit(method, y_true, y_score), 0.9), abs=0.02)
    y_true, y_score = draw_classes(2000, k=3)
    mistake = np.vstack((y_true, [[1, 0, 0]])), np.vstack((y_score, [[0.0, 1.0, 0.0]]))
    before, after = (fit_classes(method, *images).apply(y_score) for images in ((y_true, y_score), mistake))
    np.testing.assert_allclose(after, before, atol=0.02)


@pytest.mark.parametrize(("method", "message"), [("temperature", "limit of 100"), ("platt", "slope of -")])
def test_scores_that_rank_images_wrongly_are_not_reversed(method, message):
    y_true, y_score = draw_images(1000, slope=-0.5, intercept=-0.5)

    calibration = fit(method, y_true, y_score)

    assert message in calibration.message_of(0)
    probability = apply(calibration, np.linspace(0.001, 0.999, 50))
    assert (np.diff(probability) > 0).all()
    np.testing.assert_allclose(probability, 0.5 if method == "temperature" else y_true.mean(), atol=0.02)


def test_a_temperature_at_its_limit_has_a_message():
    separated = fit("temperature", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert "limit of 0.05" in restored(separated, exclusive=False).message_of(0)
    y_score = draw_classes(200)[1]
    for right, limit in ((np.argmin, "limit of 100"), (np.argmax, "limit of 0.05")):
        calibration = fit_classes("temperature", np.eye(4)[right(y_score, axis=1)], y_score)
        assert limit in calibration.message
        assert restored(calibration, exclusive=True) == calibration


@pytest.mark.parametrize("method", FITTED)
def test_labels_of_one_class_leave_the_scores_unchanged(method):
    for y_true in ([1, 1, np.nan], [0, 0, np.nan], [np.nan] * 3):
        calibration = fit(method, y_true, [0.2, 0.4, 0.9])
        np.testing.assert_array_equal(apply(calibration, [0.2, 0.4]), [0.2, 0.4])
        assert "The calibration was skipped: it needs validation images of both classes" in calibration.message_of(0)
    y_score = draw_classes(20)[1]
    calibration = fit_classes(method, np.eye(4)[[2] * 20], y_score)
    np.testing.assert_array_equal(calibration.apply(y_score), y_score)
    assert "The calibration was skipped: it needs validation images of two classes, found 1" in calibration.message
    assert "skipped" not in fit_classes(method, np.eye(4)[[1, 2] * 10], y_score).message


@pytest.mark.parametrize("method", ["none", *FITTED])
@settings(max_examples=15)
@given(seed=st.integers(0, 100))
def test_probabilities_of_classes_sum_to_one_and_keep_their_order(method, seed):
    y_true, y_score = draw_classes(40, seed=seed)
    y_true, y_score = np.vstack((y_true, np.eye(4))), np.vstack((y_score, np.eye(4)))
    probability = fit_classes(method, y_true, y_score).apply(y_score)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert (probability >= 0).all()
    if method != "platt":
        np.testing.assert_array_equal(*(each.argsort(axis=1, kind="stable") for each in (probability, y_score)))


def test_platt_scaling_calibrates_each_class_against_the_rest():
    y_true, y_score = draw_classes(400, temperature=2.5)
    probability = fit_classes("platt", y_true, y_score).apply(y_score)
    alone = fit_calibration("platt", y_true, y_score, exclusive=False).apply(y_score)
    np.testing.assert_allclose(probability, alone / alone.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("method", FITTED)
def test_images_with_unknown_labels_are_left_out(method):
    y_true, y_score = draw_classes(50)
    unknown = np.vstack((y_true, np.full((1, 4), np.nan))), np.vstack((y_score, [[0.97, 0.01, 0.01, 0.01]]))
    assert fit_classes(method, *unknown) == fit_classes(method, y_true, y_score)
