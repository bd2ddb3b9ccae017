import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.calibration import METHODS
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule, rule_from_dict
from cxr_pipeline.evaluation.metrics import binary_metrics

CLASSES = ("nofinding", "effusion")
LABELS = ("Mass", "Pleural_Thickening", "No Finding")
POLICIES = (
    {"rule": "fixed", "value": 0.3},
    {"rule": "youden"},
    {"rule": "target_sensitivity", "value": 0.9},
    {"rule": "target_specificity", "value": 0.9},
    {"rule": "f_beta", "beta": 2.0},
    {"rule": "cost", "false_negative": 3.0, "false_positive": 1.0},
)


def draw_images(n_images=400, k=1, seed=0):
    rng = np.random.default_rng(seed)
    y_true = (rng.random((n_images, k)) < 0.4).astype(float)
    return y_true, expit(3 * y_true - 2 + 2 * rng.normal(size=(n_images, k))).astype(np.float32)


def fit(images, calibration="platt", *, kind="binary", classes=CLASSES, **policy):
    return fit_decision_rule(
        *images, kind=kind, classes=classes, calibration=calibration, policy=policy or {"rule": "youden"}
    )


def fit_labels(images, calibration="platt", classes=LABELS, **policy):
    return fit(images, calibration, kind="multilabel", classes=classes, **policy)


def through_json(rule):
    return rule_from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))


@pytest.mark.parametrize("calibration", METHODS)
def test_decisions_are_those_the_policy_was_promised(calibration):
    y_true, y_score = draw_images()
    rule = fit((y_true, y_score), calibration, rule="target_sensitivity", value=0.9)

    made = rule.apply(y_score)

    assert rule.to_dict()["policy_met"] is True
    found = made.predicted[y_true == 1].mean()
    assert found >= 0.9
    assert found == binary_metrics(y_true[:, 0], made.probability[:, 0], made.predicted[:, 0])["sensitivity"]
    np.testing.assert_array_equal(made.predicted, made.probability >= rule.thresholds["effusion"])
    np.testing.assert_array_equal(made.decision == "effusion", made.predicted[:, 0])
    assert set(made.decision) == set(CLASSES)


@pytest.mark.parametrize("calibration", METHODS)
def test_binary_calibration_keeps_the_order_of_images(calibration):
    images = draw_images(200)

    probability = fit(images, calibration).apply(images[1]).probability

    np.testing.assert_array_equal(np.argsort(probability[:, 0]), np.argsort(images[1][:, 0]))


@pytest.mark.parametrize("calibration", METHODS)
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
@given(seed=st.integers(0, 50), policy=st.sampled_from(POLICIES))
def test_saved_rule_decides_the_same(kind, calibration, seed, policy):
    k, classes = {"binary": (1, CLASSES), "multilabel": (3, LABELS)}[kind]
    rule = fit(draw_images(60, k, seed), calibration, kind=kind, classes=classes, **policy)

    restored = through_json(rule)

    new_scores = np.random.default_rng(seed).random((200, k), dtype=np.float32)
    before, after = rule.apply(new_scores), restored.apply(new_scores)
    assert restored == rule
    assert restored.to_dict() == rule.to_dict()
    assert np.isfinite(list(restored.thresholds.values())).all()
    assert after.probability.tobytes() == before.probability.tobytes()
    np.testing.assert_array_equal(after.predicted, before.predicted)
    np.testing.assert_array_equal(after.decision, before.decision)


@given(seed=st.integers(0, 200), calibration=st.sampled_from(sorted(METHODS)), policy=st.sampled_from(POLICIES))
def test_one_label_is_decided_as_a_binary_task(seed, calibration, policy):
    images = draw_images(50, seed=seed)
    images[0][seed % 50] = np.nan
    binary = fit(images, calibration, **policy)
    single = fit_labels(images, calibration, classes=("effusion",), **policy)

    one, other = binary.apply(images[1]), single.apply(images[1])

    assert single.thresholds == binary.thresholds
    assert one.probability.tobytes() == other.probability.tobytes()
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert single.to_dict()["per_class"]["effusion"]["message"] == binary.to_dict()["message"]
    assert single.to_dict()["policy_met"] == binary.to_dict()["policy_met"]


@given(order=st.permutations(range(3)), seed=st.integers(0, 20), policy=st.sampled_from(POLICIES))
def test_labels_in_another_order_change_nothing(order, seed, policy):
    y_true, y_score = draw_images(60, 3, seed)
    rule = fit_labels((y_true, y_score), **policy)

    other = fit_labels((y_true[:, order], y_score[:, order]), classes=[LABELS[place] for place in order], **policy)

    assert other.thresholds == rule.thresholds
    np.testing.assert_array_equal(other.apply(y_score[:, order]).predicted, rule.apply(y_score).predicted[:, order])
    assert other.to_dict()["per_class"] == rule.to_dict()["per_class"]


def test_each_label_is_fitted_on_its_own_known_images():
    y_true, y_score = draw_images(200, 3)
    y_true[:120, 0] = np.nan
    y_true[:20] = np.nan

    values = fit_labels((y_true, y_score)).to_dict()

    alone = fit((y_true[120:, :1], y_score[120:, :1]), classes=("none", "Mass")).to_dict()
    assert values["thresholds"]["Mass"] == alone["thresholds"]["Mass"]
    assert values["calibration"]["Mass"] == alone["calibration"]
    assert values["per_class"]["Mass"]["n_images"] == 80
    assert values["per_class"]["Mass"]["n_positive"] == int(np.nansum(y_true[:, 0]))
    assert values["fitted_on"] == {"split": "validation", "n_images": 180}


def test_label_of_one_class_falls_back_and_says_so():
    y_true, y_score = draw_images(100, 3)
    y_true[:, 1] = 0

    rule = fit_labels((y_true, y_score))
    values = rule.to_dict()

    assert rule.thresholds["Pleural_Thickening"] == 0.5
    np.testing.assert_array_equal(rule.apply(y_score).probability[:, 1], y_score[:, 1])
    assert not values["policy_met"]
    assert values["message"].startswith("The policy is not met for Pleural_Thickening;")
    assert [part["policy_met"] for part in values["per_class"].values()] == [True, False, True]
    assert "The threshold is set to 0.5" in values["per_class"]["Pleural_Thickening"]["message"]
    assert "'platt' was skipped" in values["per_class"]["Pleural_Thickening"]["message"]


def test_decision_names_the_predicted_labels():
    images = draw_images(100, 3)
    rule = fit_labels(images, "none", rule="fixed", value=0.5)

    made = rule.apply([[0.6, 0.5, 0.4], [0.1, 0.2, 0.3], [0.9, 0.9, 0.9], [0.1, 0.1, 0.7]])

    assert made.predicted.tolist() == [[True, True, False], [False] * 3, [True] * 3, [False, False, True]]
    assert made.decision.tolist() == [
        "Mass|Pleural_Thickening",
        "none",
        "Mass|Pleural_Thickening|No Finding",
        "No Finding",
    ]
    nothing = rule.apply(np.zeros((0, 3)))
    assert (nothing.probability.shape, nothing.predicted.shape, nothing.decision.shape) == ((0, 3), (0, 3), (0,))


def test_json_form_of_a_binary_rule():
    y_true, y_score = draw_images(50)
    images = np.vstack((y_true, [[np.nan]])), np.vstack((y_score, [[0.5]]))
    rule = fit(images, "temperature", rule="f_beta", beta=2)

    values = rule.to_dict()

    assert values["kind"] == "binary"
    assert values["classes"] == ["nofinding", "effusion"]
    assert values["thresholds"] == rule.thresholds
    assert list(rule.thresholds) == ["effusion"]
    assert values["calibration"]["method"] == "temperature"
    assert values["policy"] == {"rule": "f_beta", "beta": 2}
    assert values["policy_met"] is True
    assert values["fitted_on"] == {"split": "validation", "n_images": 50, "n_positive": int(y_true.sum())}


def test_binary_rule_saved_before_there_were_kinds():
    old = {
        "classes": ["normal", "pneumonia"],
        "thresholds": {"pneumonia": 0.25},
        "calibration": {"method": "platt", "slope": 0.5, "intercept": -0.25, "message": ""},
        "policy": {"rule": "youden"},
        "policy_met": True,
        "message": "At 0.25 all is well.",
        "fitted_on": {"split": "validation", "n_images": 8, "n_positive": 4},
    }

    rule = rule_from_dict(old)

    assert rule.to_dict() == {"kind": "binary", **old}
    assert rule.apply([[0.001], [0.999]]).decision.tolist() == ["normal", "pneumonia"]


def test_calibration_does_not_move_youdens_decisions():
    y_true, y_score = draw_images()
    decisions = [fit((y_true, y_score), calibration).apply(y_score).predicted for calibration in METHODS]
    youden = [predicted[y_true == 1].mean() - predicted[y_true == 0].mean() for predicted in decisions]

    assert youden == pytest.approx([youden[0]] * 4)


def test_message_tells_of_threshold_and_calibration():
    y_true, y_score = draw_images()

    message = fit((1 - y_true, y_score), "platt").to_dict()["message"]

    assert "Platt scaling found a slope of -" in message
    assert "sensitivity is" in message


@pytest.mark.parametrize(("kind", "classes", "k"), [("binary", CLASSES, 1), ("multilabel", LABELS, 3)])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["rule"])
def test_another_policy_keeps_the_calibration(kind, classes, k, policy):
    images, others = draw_images(100, k), draw_images(100, k, seed=1)
    rule = fit(images, kind=kind, classes=classes)

    changed = through_json(rule).with_policy(*images, policy)

    assert changed == fit(images, kind=kind, classes=classes, **policy)
    on_others = rule.with_policy(*others, policy)
    assert on_others.to_dict()["calibration"] == rule.to_dict()["calibration"]
    assert on_others.to_dict()["fitted_on"]["n_images"] == 100


def test_wrong_input_is_refused():
    with pytest.raises(UserError, match="1 of 2 images"):
        fit(([[0], [1]], [[0.2], [np.nan]]))
    for kind, classes, k in (("binary", CLASSES, 1), ("multilabel", LABELS, 3)):
        rule = fit(draw_images(40, k), kind=kind, classes=classes)
        with pytest.raises(UserError, match="1 of 2 images"):
            rule.apply([[0.2] * k, [np.nan] * k])
        with pytest.raises(ValueError, match="must lie in"):
            rule.apply([[-0.2] * k])
    with pytest.raises(ValueError, match="two classes"):
        fit(([[0], [1]], [[0.1], [0.9]]), classes=["a"])
    with pytest.raises(ValueError, match=r"\[n, 1\]"):
        fit(([0, 1], [0.1, 0.9]))
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        fit_labels(draw_images(40, 3)).apply([[0.1, 0.2]])
