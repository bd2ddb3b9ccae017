import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule, rule_from_dict

CLASSES = ("normal", "pneumonia", "mass")
CALIBRATIONS = ("none", "temperature", "platt", "isotonic")
POLICIES = (
    {"rule": "argmax"},
    {"rule": "fixed", "value": 0.3},
    {"rule": "youden"},
    {"rule": "target_sensitivity", "value": 0.8},
    {"rule": "cost", "false_negative": 3.0, "false_positive": 1.0},
)


def draw_images(n_images=300, k=3, seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.eye(k)[rng.permutation(np.arange(n_images) % k)]
    return y_true, softmax(2 * y_true + 1.5 * rng.normal(size=(n_images, k)), axis=1).astype(np.float32)


def fit(images, calibration="temperature", classes=CLASSES, **policy):
    return fit_decision_rule(
        *images, kind="multiclass", classes=classes, calibration=calibration, policy=policy or {"rule": "argmax"}
    )


def with_thresholds(*thresholds):
    values = fit(draw_images(30), "none").to_dict()
    return rule_from_dict({**values, "thresholds": dict(zip(CLASSES, thresholds, strict=True))})


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["rule"])
@given(seed=st.integers(0, 20))
def test_saved_rule_decides_the_same(calibration, policy, seed):
    rule = fit(draw_images(60, seed=seed), calibration, **policy)

    restored = rule_from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))

    new_scores = draw_images(100, seed=seed + 1)[1]
    before, after = rule.apply(new_scores), restored.apply(new_scores)
    assert restored == rule
    assert restored.to_dict() == rule.to_dict()
    assert after.probability.tobytes() == before.probability.tobytes()
    np.testing.assert_array_equal(after.decision, before.decision)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["rule"])
def test_one_class_a_image(calibration, policy):
    images = draw_images()

    made = fit(images, calibration, **policy).apply(images[1])

    np.testing.assert_array_equal(made.predicted.sum(axis=1), 1)
    np.testing.assert_array_equal(made.decision, np.array(CLASSES)[made.predicted.argmax(axis=1)])
    np.testing.assert_allclose(made.probability.sum(axis=1), 1, atol=1e-6)
    assert made.probability.dtype == np.float64


@given(arrays(np.float64, (8, 3), elements=st.floats(0, 1)), st.floats(0, 1))
def test_equal_thresholds_choose_the_most_probable_class(y_score, threshold):
    made = with_thresholds(threshold, threshold, threshold).apply(y_score)

    np.testing.assert_array_equal(made.predicted.argmax(axis=1), y_score.argmax(axis=1))


def test_rounding_makes_no_tie_between_equal_thresholds():
    highest = np.nextafter(np.linspace(0.4, 0.99, 50), 1)
    y_score = np.column_stack((np.nextafter(highest, 0), highest, np.zeros(50)))

    made = fit(draw_images(30), "none").apply(y_score)

    assert set(made.decision) == {"pneumonia"}


@given(arrays(np.float64, (8, 3), elements=st.floats(0, 1)), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_the_largest_factor_decides(y_score, thresholds):
    factors = np.sort(y_score / thresholds, axis=1)
    assume((factors[:, -1] - factors[:, -2] > 1e-9).all())

    made = with_thresholds(*thresholds).apply(y_score)

    np.testing.assert_array_equal(made.predicted.argmax(axis=1), (y_score / thresholds).argmax(axis=1))


def test_argmax_has_equal_thresholds():
    images = draw_images()
    rule = fit(images, "temperature")

    values = rule.to_dict()

    assert rule.thresholds == dict.fromkeys(CLASSES, 1 / 3)
    np.testing.assert_array_equal(rule.apply(images[1]).predicted.argmax(axis=1), images[1].argmax(axis=1))
    assert values["kind"] == "multiclass"
    assert values["policy"] == {"rule": "argmax"}
    assert values["policy_met"] is True
    assert values["fitted_on"] == {"split": "validation", "n_images": 300}
    assert values["per_class"]["mass"]["n_images"] == 300
    assert values["per_class"]["mass"]["n_positive"] == 100


def test_a_threshold_of_zero_does_not_call_every_image():
    rule = with_thresholds(0.5, 0.5, 0.0)

    assert rule.apply([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1]]).decision.tolist() == ["normal", "mass"]


def test_youden_finds_more_images_of_a_rare_class_than_argmax():
    rng = np.random.default_rng(0)
    y_true = np.eye(3)[rng.choice(3, size=2000, p=(0.8, 0.17, 0.03))]
    y_score = softmax(2 * y_true + rng.normal(size=(2000, 3)) + np.log([0.8, 0.17, 0.03]), axis=1)
    rule = fit((y_true, y_score), "temperature")

    most_probable = rule.apply(y_score).predicted
    youden = rule.with_policy(y_true, y_score, {"rule": "youden"}).apply(y_score).predicted

    sensitivity = lambda predicted: predicted[y_true[:, 2] == 1, 2].mean()  # noqa: E731
    assert youden[:, 2].mean() > 2 * most_probable[:, 2].mean()
    assert sensitivity(youden) > sensitivity(most_probable) + 0.3
    assert (youden & (y_true == 1)).sum() < (most_probable & (y_true == 1)).sum()


def test_lower_threshold_finds_more_images_of_its_class():
    y_score = draw_images()[1]
    found = [with_thresholds(0.4, 0.4, threshold).apply(y_score).predicted[:, 2].sum() for threshold in (0.8, 0.4, 0.1)]

    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["rule"])
@given(order=st.permutations(range(3)), seed=st.integers(0, 10))
def test_classes_in_another_order_change_nothing(calibration, policy, order, seed):
    y_true, y_score = draw_images(60, seed=seed)
    rule = fit((y_true, y_score), calibration, **policy)

    other = fit((y_true[:, order], y_score[:, order]), calibration, [CLASSES[place] for place in order], **policy)

    # A sum over classes in another order differs in its last bits.
    assert other.thresholds == pytest.approx(rule.thresholds, abs=1e-6)
    probability = rule.apply(y_score).probability
    np.testing.assert_allclose(other.apply(y_score[:, order]).probability, probability[:, order], atol=1e-6)
    assert (other.apply(y_score[:, order]).decision == rule.apply(y_score).decision).mean() > 0.95


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_another_policy_keeps_the_calibration(calibration):
    images = draw_images(90)
    rule = fit(images, calibration)

    for policy in POLICIES:
        changed = rule.with_policy(*images, policy)
        assert changed == fit(images, calibration, **policy)
        assert changed.with_policy(*images, {"rule": "argmax"}) == rule


def test_policy_is_chosen_for_each_class_against_the_rest():
    y_true, y_score = draw_images()

    values = fit((y_true, y_score), "none", rule="target_sensitivity", value=0.8).to_dict()

    for place, name in enumerate(CLASSES):
        binary = fit_decision_rule(
            y_true[:, [place]],
            y_score[:, [place]],
            kind="binary",
            classes=("rest", name),
            calibration="none",
            policy={"rule": "target_sensitivity", "value": 0.8},
        ).to_dict()
        assert values["thresholds"][name] == binary["thresholds"][name]
        assert values["per_class"][name]["message"] == binary["message"]


def test_class_without_images_is_named():
    y_true, y_score = draw_images()
    images = y_true[y_true[:, 2] == 0], y_score[y_true[:, 2] == 0]

    values = fit(images, "platt", rule="youden").to_dict()

    assert not values["policy_met"]
    assert values["message"].startswith("The policy is not met for mass;")
    assert values["thresholds"]["mass"] == 0.5
    assert "found 0 positive and 200 negative" in values["per_class"]["mass"]["message"]
    assert "'platt' was skipped" in values["per_class"]["mass"]["message"]


def test_what_the_temperature_says_reaches_the_rule():
    y_true, _ = draw_images(30)

    values = fit((y_true, softmax(4 * y_true, axis=1)), "temperature").to_dict()

    assert values["message"].startswith("The policy is met for all 3 classes. Temperature scaling stopped")


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_argmax_is_for_exclusive_classes(kind):
    images, classes = ([[0], [1]], [[0.2], [0.8]]), {"binary": ("a", "b"), "multilabel": ("b",)}[kind]
    asked = {"kind": kind, "classes": classes, "calibration": "none"}
    rule = fit_decision_rule(*images, **asked, policy={"rule": "youden"})

    with pytest.raises(UserError, match=rf"thresholds\.policy .*{kind}.*thresholds\.policy\.rule=youden"):
        fit_decision_rule(*images, **asked, policy={"rule": "argmax"})
    with pytest.raises(UserError, match="argmax"):
        rule.with_policy(*images, {"rule": "argmax"})


def test_wrong_input_is_refused():
    with pytest.raises(UserError, match="1 of 3 images"):
        fit((np.eye(3), [[0.2, 0.3, 0.5], [np.nan, 0.5, 0.5], [0.1, 0.1, 0.8]]))
    with pytest.raises(UserError, match="1 of 2 images"):
        fit(draw_images(30)).apply([[0.2, 0.3, 0.5], [np.nan, np.nan, 0.5]])
    with pytest.raises(ValueError, match="must lie in"):
        fit(draw_images(30)).apply([[1.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match=r"Labels must have the shape \[n, 3\]"):
        fit(([0, 1, 2], np.eye(3)))
    with pytest.raises(ValueError, match="two classes or more"):
        fit(([[1.0]], [[1.0]]), classes=["a"])
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        fit(draw_images(30, 4))
    with pytest.raises(ValueError, match="must lie in"):
        fit((np.eye(3), np.eye(3) * 2))
    with pytest.raises(ValueError, match=r"binary, multiclass, multilabel.*Received: kind='ordinal'"):
        rule_from_dict({"kind": "ordinal"})
    with pytest.raises(ValueError, match="kind='ordinal'"):
        fit_decision_rule(
            np.eye(3), np.eye(3), kind="ordinal", classes=CLASSES, calibration="none", policy={"rule": "youden"}
        )
