import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.deployment.drift.image_features import Observed, draw_images

PATIENTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=40)


@given(PATIENTS, st.integers(0, 60), st.integers(0, 99))
def test_one_image_of_each_patient_is_drawn(patients, at_most, seed) -> None:
    drawn = draw_images(patients, at_most=at_most, seed=seed)
    named = [patients[place] for place in drawn if patients[place] is not None]
    assert len(named) == len(set(named))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    n_there = len({name for name in patients if name}) + patients.count(None)
    assert len(drawn) == min(at_most, n_there)
    assert drawn.tolist() == draw_images(patients, at_most=at_most, seed=seed).tolist()


def test_the_draw_is_by_lot_and_not_by_order() -> None:
    patients = ["a"] * 10 + ["b"] * 10
    firsts = {draw_images(patients, at_most=2, seed=seed)[0] for seed in range(50)}
    assert len(firsts) > 5
    kept = {tuple(draw_images([None] * 20, at_most=3, seed=seed)) for seed in range(20)}
    assert len(kept) > 15


def test_arrays_of_different_images_are_refused() -> None:
    arrays = [np.zeros((3, n)) for n in (11, 5, 1, 1)] + [np.full(3, "")]
    assert len(Observed(*arrays)) == 3
    with pytest.raises(ValueError, match="same images and outputs"):
        Observed(*arrays[:3], np.zeros((2, 1)), arrays[4])
    with pytest.raises(ValueError, match="same images and outputs"):
        Observed(*arrays[:3], np.zeros((3, 2)), arrays[4])
    with pytest.raises(ValueError, match="same images and outputs"):
        Observed(*arrays[:4], np.full(2, ""))
