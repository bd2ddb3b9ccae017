import numpy as np
import pytest

from cxr_pipeline.evaluation.operating_points import OperatingPoints


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
