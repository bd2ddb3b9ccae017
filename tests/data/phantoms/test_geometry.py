import numpy as np
import pytest
from cxr_pipeline.data.phantoms.geometry import Pose, closed_spline, ellipse, enlarge, grain, ribbons, soften
from hypothesis import given
from hypothesis import strategies as st


def outline_area(outline):
    x, y = outline.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_a_closed_spline_goes_through_its_knots_and_stays_near_them():
    knots = np.random.default_rng(0).random((7, 2))
    curve = closed_spline(knots, steps=5)
    np.testing.assert_allclose(curve[::5], knots, atol=1e-12)
    closing = np.linalg.norm(curve[-1] - curve[0])
    assert closing <= np.linalg.norm(np.diff(curve, axis=0), axis=1).max()


def test_a_closed_spline_is_shifted_sideways_only():
    knots = np.random.default_rng(0).random((5, 2))
    np.testing.assert_allclose(closed_spline(knots, x=0.3) - closed_spline(knots), [[0.3, 0.0]] * 30, atol=1e-12)


def test_a_ribbon_keeps_its_width_on_both_sides_of_the_curve():
    angle = np.linspace(0, np.pi / 2, 200)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None]
    ribbon = ribbons(arc, 0.1)[0]
    radii = np.sort(np.linalg.norm(ribbon, axis=1))
    np.testing.assert_allclose(radii, [0.95] * 200 + [1.05] * 200, atol=1e-4)
    assert outline_area(ribbon) == pytest.approx(np.pi / 2 * 0.1, rel=1e-3)


def test_an_ellipse_has_its_centre_and_radii():
    outline = ellipse(np.array([0.2, -0.1]), (0.3, 0.1), points=400)
    np.testing.assert_allclose(outline.mean(axis=0), [0.2, -0.1], atol=1e-9)
    np.testing.assert_allclose(np.ptp(outline, axis=0), [0.6, 0.2], atol=1e-3)


@given(
    angle=st.floats(-1, 1),
    zoom=st.floats(0.5, 2),
    shift=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
)
def test_a_pose_turns_magnifies_and_shifts(angle, zoom, shift):
    pose = Pose.of(angle=angle, zoom=zoom, shift=shift)
    points = np.array([[0.0, 0.0], [0.3, -0.2], [-0.1, 0.4]])
    placed = pose.place(points)
    np.testing.assert_allclose(placed[0], [0.5 + shift[0], 0.5 + shift[1]])
    np.testing.assert_allclose(
        np.linalg.norm(placed - placed[0], axis=1), zoom * np.linalg.norm(points, axis=1), atol=1e-9
    )
    turned = np.arctan2(*(placed[1] - placed[0])[::-1]) - np.arctan2(*points[1][::-1])
    assert np.angle(np.exp(1j * turned)) == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize("side", [64, 256])
def test_filling_covers_the_outline_at_any_size(side):
    mask = np.zeros((side, side), np.uint8)
    square = np.array([[-0.25, -0.25], [0.25, -0.25], [0.25, 0.25], [-0.25, 0.25]])
    Pose.of(angle=0.0, zoom=1.0, shift=(0.0, 0.0)).fill(mask, [square], 200)
    assert mask[side // 2, side // 2] == 200
    assert mask[0, 0] == 0
    assert mask.mean() / 200 == pytest.approx(0.25, rel=6 / side)


def test_a_line_thinner_than_a_pixel_is_fainter():
    curve = np.array([[-0.4, 0.0], [0.4, 0.0]])
    pose = Pose.of(angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    sums = []
    for width in (0.25 / 64, 1 / 64, 4 / 64):
        mask = np.zeros((64, 64), np.uint8)
        pose.trace(mask, [curve], width, 200)
        sums.append(int(mask.sum()))
    assert sums[0] == pytest.approx(sums[1] / 4, rel=0.1)
    assert sums[2] > 2.5 * sums[1]


def test_softening_keeps_the_mass_and_gives_fractions():
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    soft = soften(mask, 0.05)
    assert soft.dtype == np.float32
    assert soft.sum() == pytest.approx(400, rel=0.02)
    assert 0 < soft[18, 30] < 0.5 < soft[22, 30] < 1
    assert enlarge(soft, 128).shape == (128, 128)


@pytest.mark.parametrize("side", [5, 85, 256])
def test_grain_is_normal_noise(side):
    noise = np.concatenate([grain(np.random.default_rng(seed), side).ravel() for seed in range(1 + 60_000 // side**2)])
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(noise) < 1) == pytest.approx(0.683, abs=0.01)


def test_grain_has_no_pattern():
    noise = grain(np.random.default_rng(0), 256)
    for neighbour in (np.roll(noise, 1, axis=0), np.roll(noise, 1, axis=1), np.roll(noise, 8, axis=1)):
        assert abs(np.mean(noise * neighbour)) < 0.02
