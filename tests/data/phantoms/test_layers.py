from dataclasses import replace

import numpy as np
import pytest
from cxr_pipeline.data.phantoms.geometry import Pose
from cxr_pipeline.data.phantoms.layers import Layers, bones, centre, tissue

from cxr_pipeline.data.phantoms.anatomy import draw_anatomy
from cxr_pipeline.data.phantoms.chest import Chest, stand
from cxr_pipeline.data.phantoms.findings import draw_pneumothorax

SIDE = 256
UPRIGHT = Pose.of(angle=0.0, zoom=1.0, shift=(0.0, 0.0))
CALM = np.zeros((5, 5), np.float32)


def chest(seed: int = 0, **changes: object) -> Chest:
    rng = np.random.default_rng(seed)
    return stand(np.random.default_rng(seed), replace(draw_anatomy(rng, sex="F"), **changes), view="PA")


def at(layer, points):
    x, y = np.clip((UPRIGHT.place(points) * len(layer)).astype(int), 0, len(layer) - 1).reshape(-1, 2).T
    return layer[y, x].astype(float)


@pytest.mark.parametrize(("kind", "least"), [(0, 55), (1, 28)], ids=["posterior", "anterior"])
def test_every_rib_is_bone_and_there_are_gaps_between_them(kind, least):
    standing = chest()
    skeleton = bones(Layers.of(standing, UPRIGHT, SIDE))
    for lung in (slice(2, 8), slice(12, 18)):
        ribs = standing.ribs()[kind][lung, 4:9]
        assert at(skeleton, ribs).min() >= least
        assert at(skeleton, (ribs[1:] + ribs[:-1]) / 2).min() == 0


def test_clavicles_and_spine_are_bone():
    standing = chest()
    skeleton = bones(Layers.of(standing, UPRIGHT, SIDE))
    assert at(skeleton, standing.clavicles()).min() > 40
    y = np.linspace(-0.3, 0.3, 50)
    assert np.median(at(skeleton, np.stack([standing.spine(y), y], axis=-1))) > 40


def test_air_fills_the_lungs_and_nothing_else():
    standing = chest()
    layers = Layers.of(standing, UPRIGHT, SIDE)
    middles = np.array([lung.at(np.array(0.5), np.array(0.5)) for lung in standing.lungs])
    assert at(layers.air, middles).min() > 0.8
    assert at(layers.air, np.array([[0.0, 0.0], [0.0, 0.45], [0.48, 0.0]])).max() == 0
    assert 0 <= layers.air.min() < layers.air.max() <= 1.01


def test_the_heart_fills_the_centre_and_the_belly_takes_over_below():
    standing = chest()
    filled = centre(Layers.of(standing, UPRIGHT, SIDE))
    assert at(filled, standing.heart().mean(axis=0)) > 0.9
    assert at(filled, np.array([0.0, 0.45])) < 0.1
    assert at(filled, np.array([-0.25, 0.0])) < 0.1


def test_tissue_is_thickest_in_the_belly_and_absent_beside_the_neck():
    body = tissue(Layers.of(chest(bubble=0.0), UPRIGHT, SIDE), sag=0.0, haze=CALM)
    belly, wall, corner = at(body, np.array([[0.0, 0.45], [0.0, 0.0], [-0.45, -0.48]]))
    assert belly > wall + 0.4
    assert wall > 0.5
    assert corner < 0.05


def test_breasts_and_gas_in_the_stomach_show():
    def body(**changes: float):
        layers = Layers.of(chest(**{"breast": 0.0, "bubble": 0.0, "breast_low": 0.1, **changes}), UPRIGHT, SIDE)
        return tissue(layers, sag=0.0, haze=CALM)

    breasts = body(breast=1.0) - body()
    assert at(breasts, np.array([[-0.21, 0.1], [0.21, 0.1]])).min() > 0.2
    assert np.abs(breasts[: SIDE // 3]).max() < 0.01
    gas = body(bubble=1.0) - body()
    assert gas.min() < -0.2
    assert np.argwhere(gas < -0.1)[:, 1].min() > SIDE / 2


def test_sag_makes_the_bottom_denser_and_haze_the_image_uneven():
    layers = Layers.of(chest(), UPRIGHT, SIDE)
    flat = tissue(layers, sag=0.0, haze=CALM)
    sagging = tissue(layers, sag=0.4, haze=CALM) - flat
    assert at(sagging, np.array([0.0, 0.45])) > 0 > at(sagging, np.array([0.0, -0.45]))
    hazy = tissue(layers, sag=0.0, haze=CALM + np.float32(0.1))
    np.testing.assert_allclose(hazy[flat > 1], 1.1 * flat[flat > 1], rtol=0.05)


def test_a_pneumothorax_has_more_air_and_no_vessels():
    layers = Layers.of(chest(), UPRIGHT, SIDE)
    air, vessels = layers.air.copy(), layers.vessels.copy()
    draw_pneumothorax(np.random.default_rng(2), layers)
    rim = layers.air > air + 0.1
    assert vessels[rim].sum() > 0
    assert layers.vessels[rim].sum() < 0.1 * vessels[rim].sum()
    assert layers.added.max() > 0.2
