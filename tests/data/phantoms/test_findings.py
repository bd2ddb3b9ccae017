import numpy as np
import pytest

from cxr_pipeline.data.phantoms import FINDINGS, draw_anatomy, draw_image
from cxr_pipeline.data.phantoms.chest import stand
from cxr_pipeline.data.phantoms.findings import enlarge_heart
from cxr_pipeline.data.sources.nih import LABELS

SIZE = 256
BRIGHTER = ("Effusion", "Pneumonia", "Mass", "Nodule", "Cardiomegaly")


def with_and_without(finding, patient):
    anatomy = draw_anatomy(np.random.default_rng([patient, 1]), sex="FM"[patient % 2])
    shown, boxes = draw_image(np.random.default_rng([patient, 2]), size=SIZE, anatomy=anatomy, findings=(finding,))
    without, _ = draw_image(np.random.default_rng([patient, 2]), size=SIZE, anatomy=anatomy)
    return shown.astype(float), without.astype(float), boxes


def inside(image, box):
    rows = slice(int(box.y), max(int(np.ceil(box.y + box.height)), int(box.y) + 1))
    return image[rows, int(box.x) : max(int(np.ceil(box.x + box.width)), int(box.x) + 1)]


def test_findings_are_spelt_as_by_nih():
    assert set(FINDINGS) <= set(LABELS)


@pytest.mark.parametrize("finding", BRIGHTER)
def test_an_opacity_makes_its_box_brighter(finding):
    rises = []
    for patient in range(12):
        shown, without, boxes = with_and_without(finding, patient)
        rises += [inside(shown, box).mean() - inside(without, box).mean() for box in boxes]
    assert min(rises) > -0.5
    assert np.median(rises) > 5


def test_a_pneumothorax_darkens_its_side_and_draws_the_pleura():
    for patient in range(8):
        shown, without, (box,) = with_and_without("Pneumothorax", patient)
        change = inside(shown, box) - inside(without, box)
        assert change.mean() < -0.5
        assert np.percentile(change, 5) < -4
        assert change.max() > 3


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_change_lies_in_the_box(finding):
    for patient in range(6):
        shown, without, boxes = with_and_without(finding, patient)
        change = np.abs(shown - without)
        share = sum(inside(change, box).sum() for box in boxes) / change.sum()
        assert share > 0.6


def test_effusions_blunt_the_angle_on_either_side_from_little_to_much():
    boxes = [box for patient in range(40) for box in with_and_without("Effusion", patient)[2]]
    heights = np.array([box.height for box in boxes]) / SIZE
    assert heights.min() < 0.07
    assert heights.max() > 0.25
    on_viewers_left = np.mean([box.x + box.width / 2 < SIZE / 2 for box in boxes])
    assert 0.3 < on_viewers_left < 0.7
    assert 40 < len(boxes) < 60
    assert all(box.y + box.height > 0.55 * SIZE for box in boxes)


def test_a_mass_is_larger_than_a_nodule():
    sizes = {
        finding: [box.width for patient in range(15) for box in with_and_without(finding, patient)[2]]
        for finding in ("Mass", "Nodule")
    }
    assert max(sizes["Nodule"]) < 20 < np.median(sizes["Mass"])
    assert len(sizes["Nodule"]) > 15 == len(sizes["Mass"])


def test_cardiomegaly_is_a_cardiothoracic_ratio_above_a_half():
    rng = np.random.default_rng(0)
    for _ in range(50):
        chest = stand(rng, draw_anatomy(rng, sex="M"), view="PA")
        large = enlarge_heart(rng, chest)
        assert 0.53 < large.heart_width / large.width < 0.69
        assert large.lungs == chest.lungs
