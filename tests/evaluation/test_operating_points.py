import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.evaluation.operating_points import OperatingPoints


@st.composite
def images(draw):
    n_images = draw(st.integers(2, 40))
    positive = np.array(draw(st.lists(st.booleans(), min_size=n_images, max_size=n_images)))
    positive[:2] = False, True
    exact = st.sampled_from([0.0, 5e-324, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0), 1.0])
    values = st.one_of(exact, st.floats(0, 1), st.integers(0, 8).map(lambda cell: cell / 8))
    return positive, np.array(draw(st.lists(values, min_size=n_images, max_size=n_images)))


@given(images())
def test_each_cut_calls_the_images_it_counts(images):
    positive, probability = images
    cuts = OperatingPoints(positive, probability)

    predicted = probability >= cuts.thresholds[:, None]

    assert (predicted & positive).sum(1).tolist() == cuts.true_positives.tolist()
    assert (predicted & ~positive).sum(1).tolist() == cuts.false_positives.tolist()
    assert predicted.sum(1)[0] == 0
    assert predicted.sum(1)[-1] == len(positive)
    assert len(cuts.thresholds) == len(np.unique(probability)) + 1


def test_thresholds_lie_midway():
    cuts = OperatingPoints(np.array([False, True, True]), np.array([0.2, 0.4, 0.8]))

    assert cuts.thresholds.tolist() == pytest.approx([0.9, 0.6, 0.3, 0.1])
    assert cuts.sensitivity.tolist() == [0, 0.5, 1, 1]
    assert cuts.specificity.tolist() == [1, 1, 1, 0]
    assert cuts.mixed.tolist() == [False, True, True, False]


def test_ties_go_to_both_answers_then_the_widest_gap_then_the_lowest():
    cuts = OperatingPoints(np.array([True, False, True, False, True]), np.array([0.0, 0.2, 0.6, 0.7, 1.0]))
    nothing = np.zeros(len(cuts.thresholds))

    assert cuts.thresholds[cuts.best(nothing)] == pytest.approx(0.4)
    assert cuts.thresholds[cuts.best(nothing, among=cuts.thresholds > 0.5)] == pytest.approx(0.85)
    even = OperatingPoints(np.array([True, False, True]), np.array([0.25, 0.5, 0.75]))
    assert even.thresholds[even.best(np.zeros(4))] == pytest.approx(0.375)


def test_objectives_come_before_ties():
    cuts = OperatingPoints(np.array([True, False, True]), np.array([0.25, 0.5, 0.75]))

    assert cuts.best([1, 0, 0, 1], [0, 0, 0, 1]) == 3
    assert cuts.best([1, 0, 0, 1], [1, 0, 0, 0]) == 0
    assert cuts.best([0, 0.1 + 0.2, 0.3, 0]) == 2
