import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation import threshold_policies as policies
from cxr_pipeline.evaluation.threshold_policies import Cost, FBeta, Fixed, TargetSensitivity, TargetSpecificity, Youden

EVERY_POLICY = (Fixed(0.3), Youden(), TargetSensitivity(0.9), TargetSpecificity(0.9), FBeta(2), Cost(5, 1))


EXACT = st.sampled_from([0.0, 5e-324, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0), 1.0])


@st.composite
def images(draw):
    """Images of both classes, with probabilities that are often equal, extreme or neighbouring floats."""
    rest = draw(st.lists(st.sampled_from([0.0, 1.0]), max_size=38))
    values = EXACT | st.integers(0, 30).map(lambda cell: cell / 30)
    probability = draw(st.lists(values, min_size=len(rest) + 2, max_size=len(rest) + 2))
    return np.array([0.0, 1.0, *rest]), np.array(probability)


def rates(y_true, probability, threshold):
    """Sensitivity and specificity."""
    predicted = probability >= threshold
    return predicted[y_true == 1].mean(), (~predicted)[y_true == 0].mean()


def every_threshold(probability):
    values = np.unique(probability)
    return np.concatenate((values, np.nextafter(values, 2), (values[1:] + values[:-1]) / 2, [0, 0.5, 2]))


def f_beta(y_true, probability, threshold, beta):
    predicted = probability >= threshold
    if not predicted[y_true == 1].any():
        return 0
    precision, recall = y_true[predicted].mean(), predicted[y_true == 1].mean()
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def saving(y_true, probability, threshold, false_negative, false_positive):
    missed, alarms = 1 - np.array(rates(y_true, probability, threshold))
    costs = false_negative * (y_true == 1).sum(), false_positive * (y_true == 0).sum()
    return -(costs[0] * missed + costs[1] * alarms) / sum(costs)


@pytest.mark.parametrize(
    ("policy", "objective"),
    [(Youden(), lambda *images: sum(rates(*images)))]
    + [(FBeta(beta), lambda *images, beta=beta: f_beta(*images, beta)) for beta in (0.5, 1, 5)]
    + [(Cost(*pair), lambda *images, pair=pair: saving(*images, *pair)) for pair in ((0.01, 1), (7, 3), (1000, 1))],
)
@settings(max_examples=30)
@given(images())
def test_the_objective_is_the_largest_over_all_thresholds(policy, objective, images):
    choice = policy.choose(*images)
    best = max(objective(*images, threshold) for threshold in every_threshold(images[1]))
    assert objective(*images, choice.threshold) == pytest.approx(best, abs=1e-9)
    assert choice.policy_met == (best > max(objective(*images, 0), objective(*images, 2)) + 1e-9)


@given(images(), st.sampled_from([0.0, 0.5, 0.75, 0.9, 0.99, 1.0]), st.booleans())
def test_a_target_is_reached_with_the_largest_other_rate(images, target, wants_sensitivity):
    policy, wanted = (TargetSensitivity(target), 0) if wants_sensitivity else (TargetSpecificity(target), 1)
    every = [rates(*images, threshold) for threshold in every_threshold(images[1])]
    best_other = max(pair[1 - wanted] for pair in every if pair[wanted] >= target)

    choice = policy.choose(*images)
    reached = rates(*images, choice.threshold)

    assert choice.policy_met == (best_other > 0)
    if choice.policy_met:
        assert reached[wanted] >= target
        assert reached[1 - wanted] == best_other
        assert reached[wanted] == max(pair[wanted] for pair in every if pair[1 - wanted] == best_other)
    else:
        useful = [pair[wanted] for pair in every if min(pair) > 0]
        assert reached[wanted] == (max(useful) if useful else 1)
        assert "cannot be met" in choice.message


@pytest.mark.parametrize(
    ("policy", "y_true", "probability", "chosen", "phrase"),
    [
        # Thresholds lie in the middle of a gap between two probabilities.
        (Youden(), [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], (0.4, True), "At 0.4 sensitivity is 1.000 and specificity 1.0"),
        (Fixed(0.3), [0, 0, 1, 1], [0.1, 0.3, 0.6, 0.2], (0.3, True), "At 0.3 sensitivity is 0.500 and specificity"),
        (TargetSensitivity(0.95), [1, 1, 0], [0.9, 0.1, 0.2], (0.55, False), "A sensitivity of 0.95 cannot be met: "),
        (TargetSensitivity(0.95), [1, 1, 0], [0.9, 0.1, 0.2], (0.55, False), "The closest is 0.450 below."),
        (FBeta(1), [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], (0.05, False), "with both predictions is 0.400, against 0.667"),
    ],
)
def test_the_threshold_and_its_message(policy, y_true, probability, chosen, phrase):
    choice = policy.choose(y_true, probability)
    assert (pytest.approx(choice.threshold), choice.policy_met) == chosen
    assert phrase in choice.message


@pytest.mark.parametrize(
    ("policy", "n_positive", "warning"),
    [
        (TargetSensitivity(0.99), 298, "298 positive validation images are not enough"),
        (TargetSensitivity(0.99), 20, "it could be as low as 0.861 (95% confidence); 299 would be enough."),
        (TargetSensitivity(0.99), 299, None),
        (TargetSpecificity(0.95), 20, None),
        (TargetSpecificity(1), 20, "100 negative validation images are not enough to show a specificity of 1"),
        (TargetSpecificity(1), 20, "no number of images would be enough"),
    ],
)
def test_too_few_images_to_show_the_target_are_reported(policy, n_positive, warning):
    y_true = np.repeat([0, 1], [100, n_positive])
    message = policy.choose(y_true, np.linspace(0.1, 0.9, len(y_true))).message
    assert warning in message if warning else "not enough to show" not in message


@pytest.mark.parametrize("policy", EVERY_POLICY[1:4], ids=lambda policy: policy.rule)
def test_equal_probabilities_cannot_be_separated(policy):
    choice = policy.choose([0, 1, 1], [0.4, 0.4, 0.4])
    assert not choice.policy_met
    assert "separates the images" in choice.message
    assert "Every image is predicted" in choice.message


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.rule)
@pytest.mark.parametrize("y_true", [[1, 1, 1], [0, 0, 0], [np.nan] * 3])
def test_labels_of_one_class_give_the_default_threshold(policy, y_true):
    choice = policy.choose(y_true, [0.1, 0.6, 0.8])
    assert (choice.threshold, choice.policy_met) == ((0.3, True) if policy.rule == "fixed" else (0.5, False))
    assert f"{y_true.count(1)} positive and {y_true.count(0)} negative" in choice.message


def test_policies_are_created_from_their_values():
    for policy in EVERY_POLICY:
        assert policies.policy_from(**policy.to_dict()) == policy
    with pytest.raises(ValueError, match=r"youden.*Received: rule='yuden'"):
        policies.policy_from("yuden")
