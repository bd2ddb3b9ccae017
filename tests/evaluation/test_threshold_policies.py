from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.evaluation.threshold_policies import (
    POLICIES,
    Cost,
    FBeta,
    Fixed,
    TargetSensitivity,
    TargetSpecificity,
    Youden,
    policy_from,
)

EVERY_POLICY = (
    Fixed(0.3),
    Youden(),
    TargetSensitivity(0.9),
    TargetSpecificity(0.9),
    FBeta(2),
    Cost(false_negative=5, false_positive=1),
)


@st.composite
def images(draw):
    n_images = draw(st.integers(2, 40))
    y_true = np.array(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n_images, max_size=n_images)))
    y_true[:2] = 0, 1
    return y_true, np.array(draw(st.lists(st.integers(0, 30), min_size=n_images, max_size=n_images))) / 30


def rates(y_true, probability, threshold):
    predicted = probability >= threshold
    return predicted[y_true == 1].mean(), (~predicted)[y_true == 0].mean()


def everywhere(probability):
    """Every threshold that can make a difference, and more."""
    values = np.unique(probability)
    return np.concatenate((values, np.nextafter(values, 2), (values[1:] + values[:-1]) / 2, [0, 0.5, 2]))


@given(images())
def test_youden_is_the_largest_by_brute_force(images):
    choice = Youden().choose(*images)

    sums = [sum(rates(*images, threshold)) for threshold in everywhere(images[1])]
    assert sum(rates(*images, choice.threshold)) == pytest.approx(max(sums), abs=1e-12)
    assert choice.met == (max(sums) > 1 + 1e-9)


@given(images(), st.sampled_from([0.0, 0.5, 0.75, 0.9, 0.99, 1.0]), st.booleans())
def test_targets_are_optimal_by_brute_force(images, target, sensitivity_wanted):
    policy, wanted = (TargetSensitivity(target), 0) if sensitivity_wanted else (TargetSpecificity(target), 1)
    every = [rates(*images, threshold) for threshold in everywhere(images[1])]
    best_left = max(pair[1 - wanted] for pair in every if pair[wanted] >= target)

    choice = policy.choose(*images)
    reached = rates(*images, choice.threshold)

    assert choice.met == (best_left > 0)
    if choice.met:
        assert reached[wanted] >= target
        assert reached[1 - wanted] == best_left
        assert reached[wanted] == max(pair[wanted] for pair in every if pair[1 - wanted] == best_left)
    else:
        useful = [pair[wanted] for pair in every if min(pair) > 0]
        assert reached[wanted] == (max(useful) if useful else 1)
        assert "cannot be met" in choice.message


@given(images(), st.sampled_from([0.5, 1, 2, 5]))
def test_f_beta_is_the_largest_by_brute_force(images, beta):
    y_true, probability = images

    def score(threshold):
        predicted = probability >= threshold
        if not predicted[y_true == 1].any():
            return 0
        precision, recall = y_true[predicted].mean(), predicted[y_true == 1].mean()
        return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)

    choice = FBeta(beta).choose(*images)

    assert score(choice.threshold) == pytest.approx(max(map(score, everywhere(images[1]))), abs=1e-9)
    assert choice.met == (score(choice.threshold) > score(0) + 1e-9)


@given(images(), st.sampled_from([0.01, 0.3, 1, 7, 1000]), st.sampled_from([1, 3]))
def test_cost_is_the_smallest_by_brute_force(images, false_negative, false_positive):
    y_true, probability = images

    def cost(threshold):
        predicted = probability >= threshold
        missed, alarms = (~predicted & (y_true == 1)).sum(), (predicted & (y_true == 0)).sum()
        return false_negative * missed + false_positive * alarms

    choice = Cost(false_negative, false_positive).choose(y_true, probability)

    assert cost(choice.threshold) == pytest.approx(min(map(cost, everywhere(probability))))
    assert choice.met == (cost(choice.threshold) < min(cost(0), cost(2)) * (1 - 1e-9))


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.rule)
@given(images=images(), random=st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(policy, images, random):
    order = list(range(len(images[0])))
    random.shuffle(order)

    assert policy.choose(images[0][order], images[1][order]) == policy.choose(*images)


def test_threshold_lies_in_the_middle_of_the_gap():
    choice = Youden().choose([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9])

    assert choice.threshold == pytest.approx(0.4)
    assert choice.met
    assert "sensitivity is 1.000 and specificity 1.000 on 2 positive and 2 negative" in choice.message


def test_fixed_is_taken_as_it_is():
    choice = Fixed(0.3).choose([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.2])

    assert (choice.threshold, choice.met) == (0.3, True)
    assert "At 0.3 sensitivity is 0.500 and specificity 0.500" in choice.message


def test_missed_target_says_by_how_much():
    y_true = np.array([1, 1, 1, 1, 0, 0])
    probability = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3])

    choice = TargetSensitivity(0.95).choose(y_true, probability)

    assert not choice.met
    assert rates(y_true, probability, choice.threshold) == (0.75, 1)
    assert "A sensitivity of 0.95 cannot be met" in choice.message
    assert "0.200 below" in choice.message


def test_too_few_images_to_show_the_target():
    y_true, probability = np.repeat([0, 1], [100, 20]), np.linspace(0.1, 0.9, 120)

    choice = TargetSensitivity(0.99).choose(y_true, probability)

    assert choice.met
    assert "20 positive validation images are not enough to show a sensitivity of 0.99" in choice.message
    assert "as low as 0.861" in choice.message
    assert "299 would be enough" in choice.message
    assert "not enough to show" not in TargetSpecificity(0.95).choose(y_true, probability).message
    assert "no number of images would be enough" in TargetSpecificity(1).choose(y_true, probability).message


@pytest.mark.parametrize(("n_images", "doubtful"), [(298, True), (299, False)])
def test_the_number_said_is_the_number_needed(n_images, doubtful):
    y_true, probability = np.repeat([0, 1], n_images), np.linspace(0, 1, 2 * n_images)

    assert ("not enough to show" in TargetSensitivity(0.99).choose(y_true, probability).message) == doubtful


@pytest.mark.parametrize("policy", EVERY_POLICY[1:4], ids=lambda policy: policy.rule)
def test_equal_probabilities_cannot_tell_images_apart(policy):
    choice = policy.choose([0, 1, 1], [0.4, 0.4, 0.4])

    assert not choice.met
    assert "separates the images" in choice.message
    assert "Every image is predicted" in choice.message


def test_useless_scores_are_said_to_be():
    choice = FBeta(1).choose([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])

    assert not choice.met
    assert "F1 with both predictions is 0.400, against 0.667 if every image is predicted positive" in choice.message


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.rule)
@pytest.mark.parametrize("y_true", [[1, 1, 1], [0, 0, 0], [np.nan] * 3])
def test_one_class_leaves_the_threshold(policy, y_true):
    choice = policy.choose(y_true, [0.1, 0.6, 0.8])

    assert choice.threshold == (0.3 if policy.rule == "fixed" else 0.5)
    assert choice.met == (policy.rule == "fixed")
    n_positive, n_negative = y_true.count(1), y_true.count(0)
    assert f"{n_positive} positive and {n_negative} negative" in choice.message


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.rule)
def test_policy_comes_back_from_its_values(policy):
    assert policy_from(**policy.to_dict()) == policy


def test_unknown_rule_is_named():
    with pytest.raises(ValueError, match=r"youden.*Received: rule='yuden'"):
        policy_from("yuden")


def test_every_policy_of_the_configuration_is_there():
    from cxr_pipeline.framework.config import decisions

    union, _ = get_args(decisions.Policy)
    fields = {get_args(block.model_fields["rule"].annotation)[0]: set(block.model_fields) for block in get_args(union)}

    assert fields.pop("argmax") == {"rule"}  # the one that chooses no threshold, but the most probable class
    assert fields == {rule: {"rule", *kind.__dataclass_fields__} for rule, kind in POLICIES.items()}


def test_configuration_takes_policies_to_compare_with():
    from cxr_pipeline.framework.config import Thresholds

    block = {"calibration": "none", "policy": {"rule": "argmax"}}
    compared = [{"rule": "fixed", "value": 0.3}, {"rule": "youden"}]

    assert Thresholds(**block).compared == ()
    assert [policy.model_dump() for policy in Thresholds(**block, compared=compared).compared] == compared
    with pytest.raises(ValueError, match="yuden"):
        Thresholds(**block, compared=[{"rule": "yuden"}])
