import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from cxr_pipeline.calibration import METHODS
from cxr_pipeline.decision_rule import DecisionRule, fit_decision_rule
from cxr_pipeline.errors import UserError
from cxr_pipeline.metrics import binary_metrics

CLASSES = ("nofinding", "effusion")


def draw_films(n_films=400, seed=0):
    rng = np.random.default_rng(seed)
    y_true = (rng.random(n_films) < 0.4).astype(float)
    return y_true, expit(3 * y_true - 2 + 2 * rng.normal(size=n_films)).astype(np.float32)


def fit(films, calibration="platt", **policy):
    return fit_decision_rule(*films, classes=CLASSES, calibration=calibration, policy=policy or {"rule": "youden"})


@pytest.mark.parametrize("calibration", METHODS)
def test_decisions_are_those_the_policy_was_promised(calibration):
    y_true, y_score = draw_films()
    rule = fit((y_true, y_score), calibration, rule="target_sensitivity", value=0.9)

    probability, decision = rule.apply(y_score)

    assert rule.met
    found = (decision == "effusion")[y_true == 1].mean()
    assert found >= 0.9
    assert found == binary_metrics(y_true, probability, rule.threshold)["sensitivity"]
    np.testing.assert_array_equal(decision == "effusion", probability >= rule.threshold)
    assert set(decision) == set(CLASSES)


@pytest.mark.parametrize("calibration", METHODS)
@given(st.integers(0, 50))
def test_saved_rule_decides_the_same(calibration, seed):
    rule = fit(draw_films(60, seed), calibration, rule="cost", false_negative=3, false_positive=1)

    restored = DecisionRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))

    new_scores = np.random.default_rng(seed).random(200, dtype=np.float32)
    assert restored == rule
    assert restored.apply(new_scores)[0].tobytes() == rule.apply(new_scores)[0].tobytes()
    np.testing.assert_array_equal(restored.apply(new_scores)[1], rule.apply(new_scores)[1])


def test_json_form():
    y_true, y_score = draw_films(50)
    rule = fit((np.append(y_true, np.nan), np.append(y_score, 0.5)), "temperature", rule="f_beta", beta=2)

    values = rule.to_dict()

    assert values["classes"] == ["nofinding", "effusion"]
    assert values["thresholds"] == {"effusion": rule.threshold}
    assert values["calibration"]["method"] == "temperature"
    assert values["policy"] == {"rule": "f_beta", "beta": 2}
    assert values["policy_met"] is True
    assert values["fitted_on"] == {"split": "validation", "n_films": 50, "n_positive": int(y_true.sum())}


def test_calibration_does_not_move_youdens_decisions():
    y_true, y_score = draw_films()
    decisions = [fit((y_true, y_score), calibration).apply(y_score)[1] == "effusion" for calibration in METHODS]
    youden = [called[y_true == 1].mean() - called[y_true == 0].mean() for called in decisions]

    assert youden == pytest.approx([youden[0]] * 4)


def test_message_tells_of_threshold_and_calibration():
    y_true, y_score = draw_films()

    rule = fit((1 - y_true, y_score), "platt")

    assert "Platt scaling found a slope of -" in rule.message
    assert "sensitivity is" in rule.message


def test_shape_is_kept():
    rule = fit(draw_films())

    probability, decision = rule.apply(np.full((3, 1), 0.99, dtype=np.float32))

    assert probability.shape == decision.shape == (3, 1)
    assert decision.tolist() == [["effusion"]] * 3
    assert rule.apply(0.001)[1] == "nofinding"


def test_wrong_input_is_refused():
    with pytest.raises(UserError, match="1 of 2 films"):
        fit(([0, 1], [0.2, np.nan]))
    with pytest.raises(ValueError, match="two classes"):
        fit_decision_rule([0, 1], [0.1, 0.9], classes=["a"], calibration="none", policy={"rule": "youden"})
