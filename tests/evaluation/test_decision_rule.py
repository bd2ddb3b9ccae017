import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule, rule_from_dict

CLASSES = {
    "binary": ("nofinding", "effusion"),
    "multiclass": ("normal", "pneumonia", "mass"),
    "multilabel": ("Mass", "Pleural_Thickening", "No Finding"),
}
ARGMAX = {"rule": "argmax"}
YOUDEN = {"rule": "youden"}
POLICIES = (
    {"rule": "fixed", "value": 0.3},
    YOUDEN,
    {"rule": "target_sensitivity", "value": 0.9},
    {"rule": "target_specificity", "value": 0.9},
)
METHODS = ("none", "temperature", "platt")
KINDS_AND_POLICIES = [(kind, policy) for kind in CLASSES for policy in POLICIES] + [("multiclass", ARGMAX)]


def draw_images(kind, n_images=300, seed=0):
    """Draw labels and float32 scores of a kind of task."""
    rng = np.random.default_rng(seed)
    k = 1 if kind == "binary" else 3
    if kind == "multiclass":
        y_true = np.eye(3)[rng.permutation(np.arange(n_images) % 3)]
    else:
        y_true = (rng.random((n_images, k)) < 0.4).astype(float)
    raised = 2 * y_true - 1 + 1.5 * rng.normal(size=(n_images, k))
    return y_true, (softmax(raised, axis=1) if kind == "multiclass" else 1 / (1 + np.exp(-raised))).astype(np.float32)


def fit(kind, images, policy=YOUDEN, calibration="platt", classes=None):
    classes = classes or CLASSES[kind]
    return fit_decision_rule(*images, kind=kind, classes=classes, calibration=calibration, policy=policy)


def through_json(rule):
    return rule_from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))


def with_thresholds(*thresholds):
    """Return a multiclass rule without calibration and with the given thresholds."""
    values = fit("multiclass", draw_images("multiclass", 30), ARGMAX, "none").to_dict()
    return rule_from_dict({**values, "thresholds": dict(zip(CLASSES["multiclass"], thresholds, strict=True))})


@settings(max_examples=60)
@given(st.sampled_from(KINDS_AND_POLICIES), st.sampled_from(METHODS), st.integers(0, 50))
def test_a_saved_rule_makes_the_same_decisions(kind_and_policy, calibration, seed):
    kind, policy = kind_and_policy
    rule = fit(kind, draw_images(kind, 60, seed), policy, calibration)

    restored = through_json(rule)

    new_scores = draw_images(kind, 100, seed + 1)[1]
    assert restored == rule
    assert np.isfinite(list(restored.thresholds.values())).all()
    assert restored.apply(new_scores).probability.tobytes() == rule.apply(new_scores).probability.tobytes()


@pytest.mark.parametrize(("kind", "policy"), KINDS_AND_POLICIES)
def test_another_policy_keeps_the_calibration(kind, policy):
    images, others = draw_images(kind, 100), draw_images(kind, 90, seed=1)
    rule = fit(kind, images)
    assert through_json(rule).with_policy(*images, policy) == fit(kind, images, policy)
    on_others = rule.with_policy(*others, policy).to_dict()
    assert on_others["calibration"] == rule.to_dict()["calibration"]
    assert on_others["fitted_on"]["n_images"] == 90


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["rule"])
@pytest.mark.parametrize(("kind", "calibration"), [("multiclass", "none"), *(("multilabel", name) for name in METHODS)])
def test_each_output_is_fitted_on_its_own_known_images_against_the_rest(kind, calibration, policy):
    y_true, y_score = draw_images(kind, 200)
    if kind == "multilabel":
        y_true[:120, 0] = y_true[:20, 1] = y_true[:20, 2] = np.nan

    values = fit(kind, (y_true, y_score), policy, calibration).to_dict()

    for column, name in enumerate(CLASSES[kind]):
        known = ~np.isnan(y_true[:, column])
        images = y_true[known][:, [column]], y_score[known][:, [column]]
        alone = fit("binary", images, policy, calibration, classes=("rest", name)).to_dict()
        assert values["thresholds"][name] == alone["thresholds"][name]
        counts = {"n_images": known.sum(), "n_positive": alone["fitted_on"]["n_positive"]}
        assert values["per_class"][name] == {key: alone[key] for key in ("policy_met", "message")} | counts
        if kind == "multilabel":
            assert values["calibration"][name] == alone["calibration"]
    assert values["fitted_on"] == {"split": "validation", "n_images": 180 if kind == "multilabel" else 200}


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_an_output_without_positive_images_falls_back_and_is_named(kind):
    y_true, y_score = draw_images(kind)
    kept, name = y_true[:, 2] == 0, CLASSES[kind][2]
    values = fit(kind, (y_true[kept], y_score[kept])).to_dict()
    assert (values["thresholds"][name], values["policy_met"]) == (0.5, False)
    assert [part["policy_met"] for part in values["per_class"].values()] == [True, True, False]
    assert values["message"].startswith(f"The policy is not met for {name};")
    for phrase in (f"found 0 positive and {kept.sum()} negative", "The calibration was skipped"):
        assert phrase in values["per_class"][name]["message"]


def test_decisions_name_the_predicted_labels():
    rule = fit("multilabel", draw_images("multilabel", 100), {"rule": "fixed", "value": 0.5}, "none")
    made = rule.apply([[0.6, 0.5, 0.4], [0.1, 0.2, 0.3], [0.1, 0.1, 0.7]])
    assert made.predicted.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
    assert made.decision.tolist() == ["Mass|Pleural_Thickening", "none", "No Finding"]
    binary = fit("binary", draw_images("binary", 30), {"rule": "fixed", "value": 0.5}, "none")
    assert binary.apply([[0.5], [0.4]]).decision.tolist() == ["effusion", "nofinding"]
    nothing = rule.apply(np.zeros((0, 3)))
    assert (nothing.probability.shape, nothing.predicted.shape, nothing.decision.shape) == ((0, 3), (0, 3), (0,))


@settings(max_examples=50)
@given(arrays(np.float64, (8, 3), elements=st.floats(0, 1)), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_the_class_that_exceeds_its_threshold_by_the_largest_factor_is_predicted(y_score, thresholds):
    factors = y_score / thresholds
    assume((np.diff(np.sort(factors, axis=1))[:, -1] > 1e-9).all())
    made = with_thresholds(*thresholds).apply(y_score)
    np.testing.assert_array_equal(made.predicted, np.arange(3) == factors.argmax(axis=1)[:, None])
    np.testing.assert_array_equal(made.decision, np.array(CLASSES["multiclass"])[factors.argmax(axis=1)])


def test_equal_thresholds_predict_the_most_probable_class_without_rounding_errors():
    highest = np.nextafter(np.linspace(0.4, 0.99, 50), 1)
    y_score = np.column_stack((np.nextafter(highest, 0), highest, np.zeros(50)))

    for threshold in (0.0, 0.3, 1 / 3, 1.0):
        assert set(with_thresholds(threshold, threshold, threshold).apply(y_score).decision) == {"pneumonia"}
    y_true, _ = draw_images("multiclass", 30)
    rule = fit("multiclass", (y_true, softmax(4 * y_true, axis=1)), ARGMAX, "temperature")
    assert set(rule.thresholds.values()) == {1 / 3}
    # These images are separated, so that the temperature is at its limit.
    assert rule.to_dict()["message"].startswith("The policy is met for all 3 classes. Temperature scaling stopped")
    # A threshold of 0 does not predict its class for every image.
    made = with_thresholds(0.5, 0.5, 0.0).apply([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1]])
    assert made.decision.tolist() == ["normal", "mass"]


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_argmax_requires_exclusive_classes(kind):
    images = draw_images(kind, 30)
    with pytest.raises(UserError, match=rf"thresholds\.policy .*{kind}.*thresholds\.policy\.rule=youden"):
        fit(kind, images, ARGMAX)
    with pytest.raises(UserError, match="argmax"):
        fit(kind, images).with_policy(*images, ARGMAX)


@pytest.mark.parametrize("kind", CLASSES)
def test_wrong_scores_are_rejected(kind):
    y_true, y_score = draw_images(kind, 40)
    rule = fit(kind, (y_true, y_score))
    for wrong, error, message in (
        (np.where(np.arange(40)[:, None] == 3, np.nan, y_score), UserError, "1 of 40 images"),
        (y_score + 1, ValueError, r"must lie in \[0, 1\]"),
        (y_score[:, 0], ValueError, rf"Scores must have the shape \[n, {y_score.shape[1]}\]"),
    ):
        with pytest.raises(error, match=message):
            fit(kind, (y_true, wrong))
        with pytest.raises(error, match=message):
            rule.apply(wrong)
    with pytest.raises(ValueError, match="Labels must have the shape"):
        fit(kind, (y_true[:, 0], y_score))


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "other"},
        {"thresholds": {"effusion": float("nan")}},
        {"thresholds": {"effusion": "high"}},
        {"calibration": {"method": "isotonic"}},
        {"classes": []},
        {"policy": None},
    ],
)
def test_a_damaged_rule_is_an_error_of_one_line(damage):
    values = fit("binary", draw_images("binary")).to_dict()
    with pytest.raises(UserError, match=r"The decision rule is damaged: .+ Train the model again"):
        rule_from_dict({**values, **damage})
    with pytest.raises(UserError, match="'classes'"):
        rule_from_dict({"kind": "binary"})
