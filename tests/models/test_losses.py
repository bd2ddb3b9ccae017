import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.models.losses import build_loss

LABELS = np.array([[1.0], [0.0], [0.0], [0.0]], np.float32)
SCORES = np.array([[0.7], [0.2], [0.4], [0.1]], np.float32)


def mean(name: str, y_true: np.ndarray, y_score: np.ndarray, prevalence: float = 0.25) -> float:
    return float(np.mean(build_loss(name, prevalence=prevalence)(y_true, y_score)))


def test_bce_is_the_mean_of_the_negative_log_likelihood() -> None:
    expected = -np.log([0.7, 0.8, 0.6, 0.9]).mean()
    assert mean("bce", LABELS, SCORES) == pytest.approx(expected, rel=1e-5)


def test_weighted_bce_gives_both_classes_the_same_say() -> None:
    of_positives, of_negatives = -np.log(0.7), -np.log([0.8, 0.6, 0.9]).mean()
    assert mean("weighted_bce", LABELS, SCORES) == pytest.approx((of_positives + of_negatives) / 2, rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), min_size=1, max_size=20))
def test_weighted_bce_of_a_balanced_set_is_bce(films: list[tuple[bool, float]]) -> None:
    y_true, y_score = (np.array(column, np.float32)[:, np.newaxis] for column in zip(*films, strict=True))
    assert mean("weighted_bce", y_true, y_score, 0.5) == pytest.approx(mean("bce", y_true, y_score), rel=1e-4)


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_weighted_bce_of_one_class_is_finite(prevalence: float) -> None:
    y_true = np.full((2, 1), prevalence, np.float32)
    assert np.isfinite(mean("weighted_bce", y_true, SCORES[:2], prevalence))


def test_focal_loss_turns_from_what_is_right_already() -> None:
    one = np.ones((1, 1), np.float32)
    for score in (0.6, 0.9):
        expected = -((1 - score) ** 2) * np.log(score)
        assert mean("focal", one, score * one) == pytest.approx(expected, rel=1e-4)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected a loss among bce, weighted_bce, focal\. Received: name='mse'"):
        build_loss("mse", prevalence=0.5)
