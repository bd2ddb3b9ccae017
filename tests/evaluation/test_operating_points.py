import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.evaluation.operating_points import OperatingPoints


@st.composite
def images(draw):
    """Images of both classes, with probabilities that are equal, extreme or neighbouring floats."""
    exact = st.sampled_from([0.0, 5e-324, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0), 1.0])
    values = st.one_of(exact, st.floats(0, 1), st.integers(0, 8).map(lambda cell: cell / 8))
    rest = draw(st.lists(st.tuples(st.booleans(), values), max_size=38))
    positive, probability = zip((False, draw(values)), (True, draw(values)), *rest, strict=True)
    return np.array(positive), np.array(probability)


@given(images())
def test_thresholds_give_the_counted_predictions(images):
    positive, probability = images
    points = OperatingPoints(positive, probability)
    predicted = probability >= points.thresholds[:, None]
    assert (predicted & positive).sum(1).tolist() == points.true_positives.tolist()
    assert (predicted & ~positive).sum(1).tolist() == points.false_positives.tolist()
    assert (predicted.sum(1)[0], predicted.sum(1)[-1]) == (0, len(positive))
    assert len(points.thresholds) == len(np.unique(probability)) + 1


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
