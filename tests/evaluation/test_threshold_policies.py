import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.threshold_policies import OperatingPoints, choose_threshold

FIXED, YOUDEN = {"rule": "fixed", "value": 0.3}, {"rule": "youden"}


def sensitivity(value):
    return {"rule": "target_sensitivity", "value": value}


def specificity(value):
    return {"rule": "target_specificity", "value": value}


EVERY_POLICY = (FIXED, YOUDEN, sensitivity(0.9), specificity(0.9))
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


@settings(max_examples=60)
@given(images())
def test_youden_is_the_largest_over_all_thresholds(images):
    choice = choose_threshold(*images, **YOUDEN)
    best = max(sum(rates(*images, threshold)) for threshold in every_threshold(images[1]))
    assert sum(rates(*images, choice.threshold)) == pytest.approx(best, abs=1e-9)
    assert choice.policy_met == (best > 1 + 1e-9)


@given(images(), st.sampled_from([0.0, 0.5, 0.75, 0.9, 0.99, 1.0]), st.booleans())
def test_a_target_is_reached_with_the_largest_other_rate(images, target, wants_sensitivity):
    policy, wanted = (sensitivity(target), 0) if wants_sensitivity else (specificity(target), 1)
    every = [rates(*images, threshold) for threshold in every_threshold(images[1])]
    best_other = max(pair[1 - wanted] for pair in every if pair[wanted] >= target)

    choice = choose_threshold(*images, **policy)
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
        (YOUDEN, [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], (0.4, True), "At 0.4 sensitivity is 1.000 and specificity 1.0"),
        (FIXED, [0, 0, 1, 1], [0.1, 0.3, 0.6, 0.2], (0.3, True), "At 0.3 sensitivity is 0.500 and specificity"),
        (sensitivity(0.95), [1, 1, 0], [0.9, 0.1, 0.2], (0.55, False), "A sensitivity of 0.95 cannot be met: "),
        (sensitivity(0.95), [1, 1, 0], [0.9, 0.1, 0.2], (0.55, False), "The closest is 0.450 below."),
        (YOUDEN, [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], (0.05, False), "specificity add up to 0.500 at most."),
    ],
)
def test_the_threshold_and_its_message(policy, y_true, probability, chosen, phrase):
    choice = choose_threshold(y_true, probability, **policy)
    assert (pytest.approx(choice.threshold), choice.policy_met) == chosen
    assert phrase in choice.message


@pytest.mark.parametrize(
    ("policy", "n_positive", "warning"),
    [
        (sensitivity(0.99), 298, "298 positive validation images are not enough"),
        (sensitivity(0.99), 20, "it could be as low as 0.861 (95% confidence); 299 would be enough."),
        (sensitivity(0.99), 299, None),
        (specificity(0.95), 20, None),
        (specificity(1), 20, "100 negative validation images are not enough to show a specificity of 1"),
        (specificity(1), 20, "no number of images would be enough"),
    ],
)
def test_too_few_images_to_show_the_target_are_reported(policy, n_positive, warning):
    y_true = np.repeat([0, 1], [100, n_positive])
    message = choose_threshold(y_true, np.linspace(0.1, 0.9, len(y_true)), **policy).message
    assert warning in message if warning else "not enough to show" not in message


@pytest.mark.parametrize("policy", EVERY_POLICY[1:], ids=lambda policy: policy["rule"])
def test_equal_probabilities_cannot_be_separated(policy):
    choice = choose_threshold([0, 1, 1], [0.4, 0.4, 0.4], **policy)
    assert not choice.policy_met
    assert "separates the images" in choice.message
    assert "Every image is predicted" in choice.message


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy["rule"])
@pytest.mark.parametrize("y_true", [[1, 1, 1], [0, 0, 0], [np.nan] * 3])
def test_labels_of_one_class_give_the_default_threshold(policy, y_true):
    choice = choose_threshold(y_true, [0.1, 0.6, 0.8], **policy)
    assert (choice.threshold, choice.policy_met) == ((0.3, True) if policy == FIXED else (0.5, False))
    assert f"{y_true.count(1)} positive and {y_true.count(0)} negative" in choice.message


def test_ties_prefer_both_predictions_then_the_widest_gap_then_the_lowest_threshold():
    points = OperatingPoints(np.array([True, False, True, False, True]), np.array([0.0, 0.2, 0.6, 0.7, 1.0]))
    tied = np.zeros(len(points.thresholds))

    assert points.thresholds[points.best(tied)] == pytest.approx(0.4)
    assert points.thresholds[points.best(tied, among=points.thresholds > 0.5)] == pytest.approx(0.85)
    even = OperatingPoints(np.array([True, False, True]), np.array([0.25, 0.5, 0.75]))
    assert even.thresholds[even.best(np.zeros(4))] == pytest.approx(0.375)
    # Objectives come first, in their order; rounding errors are ties.
    assert even.best([1, 0, 0, 1], [0, 0, 0, 1]) == 3
    assert even.best([1, 0, 0, 1], [1, 0, 0, 0]) == 0
    assert even.best([0, 0.1 + 0.2, 0.3, 0]) == 2
