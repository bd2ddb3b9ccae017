import numpy as np
import pytest

from cxr_pipeline.data.phantoms.anatomy import BRANCHES, draw_anatomy
from cxr_pipeline.data.phantoms.chest import LEFT, RIGHT, stand


def chests(view="PA", n=60):
    for seed in range(n):
        rng = np.random.default_rng(seed)
        yield stand(rng, draw_anatomy(rng, sex="FM"[seed % 2]), view=view)


def test_equal_generators_give_equal_patients():
    one, other = (draw_anatomy(np.random.default_rng(3), sex="F") for _ in range(2))
    np.testing.assert_array_equal(one.vessels, other.vessels)
    assert one.heart_ratio == other.heart_ratio
    assert draw_anatomy(np.random.default_rng(4), sex="F").heart_ratio != one.heart_ratio


def test_vessels_start_at_the_hila_and_come_in_both_lungs():
    vessels = draw_anatomy(np.random.default_rng(0), sex="M").vessels
    assert vessels.shape == (2, sum(BRANCHES), 5, 2)
    np.testing.assert_allclose(vessels[:, : BRANCHES[0], 0].mean(axis=1), [[0.10, 0.46]] * 2, atol=0.05)


def test_women_have_breast_shadows_and_most_men_none():
    breasts = {sex: [draw_anatomy(np.random.default_rng(s), sex=sex).breast for s in range(40)] for sex in "FM"}
    assert min(breasts["F"]) > 0.3
    assert np.median(breasts["M"]) < 0.1


def test_the_lungs_lie_on_their_sides_and_below_their_apices():
    for chest in chests():
        for lung, side in zip(chest.lungs, (-1, 1), strict=True):
            x, y = lung.outline().T
            assert (x * side > 0).all()
            assert y.min() == pytest.approx(lung.apex)
            assert y.max() == pytest.approx(lung.base)
            assert np.abs(x).max() == pytest.approx(lung.lateral)


def test_the_diaphragm_is_a_dome_that_ends_in_the_costophrenic_angle():
    for chest in chests(n=5):
        for lung in chest.lungs:
            height = lung.floor(np.linspace(0, 1, 101))
            assert height.max() == pytest.approx(lung.dome, rel=0.01)
            assert height[-1] == pytest.approx(0)
            assert height[0] > 0.4 * lung.dome


def test_the_right_dome_is_mostly_higher():
    domes = [[lung.base - lung.dome for lung in chest.lungs] for chest in chests()]
    higher = [dome[RIGHT] < dome[LEFT] for dome in domes]
    assert np.mean(higher) > 0.85


def test_the_heart_lies_on_the_patients_left_and_is_as_wide_as_its_ratio_says():
    for chest in chests():
        x = chest.heart()[:, 0]
        assert x.mean() > chest.turn
        assert np.ptp(x) == pytest.approx(chest.heart_width, rel=0.06)
        assert 0.35 < chest.heart_width / chest.width < 0.52


def test_on_an_ap_image_the_heart_is_wider_and_the_breath_shallower():
    for upright, lying in zip(chests("PA", 10), chests("AP", 10), strict=True):
        assert lying.heart_width > upright.heart_width
        assert lying.lungs[RIGHT].base < upright.lungs[RIGHT].base


def test_ribs_are_paired_and_fall_from_the_spine_to_the_wall():
    for chest in chests(n=5):
        posterior, anterior = chest.ribs()
        assert posterior.shape == anterior.shape == (20, 14, 2)
        assert (posterior[:10, -1, 0] < 0).all()
        assert (posterior[10:, -1, 0] > 0).all()
        assert (posterior[:, -1, 1] > posterior[:, 0, 1]).all()
        np.testing.assert_allclose(anterior[:, 0], posterior[:, -1], atol=1e-9)
        assert (np.abs(anterior[:, -1, 0]) < np.abs(anterior[:, 0, 0])).all()
