import numpy as np
import pytest

from cxr_pipeline.data.phantoms import FINDINGS
from cxr_pipeline.data.phantoms.chest import Anatomy, pose_chest

SIZE = 256


@pytest.fixture(scope="module")
def with_and_without(radiograph):
    def draw(finding, patient):
        shown, boxes = radiograph(patient, size=SIZE, findings=(finding,))
        without, _ = radiograph(patient, size=SIZE)
        return shown.astype(float), without.astype(float), boxes

    return draw


def inside(image, box, margin=0):
    left, top = int(max(box.x - margin, 0)), int(max(box.y - margin, 0))
    return image[top : int(box.y + box.height) + margin, left : int(box.x + box.width) + margin]


@pytest.mark.parametrize("finding", FINDINGS)
def test_opacities_brighten_their_boxes_and_a_pneumothorax_darkens_its_side(finding, with_and_without):
    changes = []
    for patient in range(8):
        shown, without, boxes = with_and_without(finding, patient)
        changes += [inside(shown - without, box) for box in boxes]
    means = [change.mean() for change in changes]
    if finding == "Pneumothorax":
        assert max(means) < 0
        assert max(np.percentile(change, 5) for change in changes) < -3
        assert min(change.max() for change in changes) > 3  # the pleura
    else:
        assert min(means) > -0.5
        assert np.median(means) > 5


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_radiograph_changes_in_the_boxes_only(finding, with_and_without):
    for patient in range(6):
        shown, without, boxes = with_and_without(finding, patient)
        change = np.abs(shown - without)
        assert sum(inside(change, box).sum() for box in boxes) > 0.6 * change.sum()
        changed = change > 3
        n_changed = changed.sum()
        for box in boxes:
            inside(changed, box, margin=16)[:] = False
        assert changed.sum() <= 0.03 * n_changed


def test_cardiomegaly_is_a_cardiothoracic_ratio_above_a_half():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        chest = pose_chest(rng, Anatomy(rng, sex="M"), side=512, view="PA")
        chest_width = sum(lung.lateral for lung in chest.lungs)
        widths = []
        for heart in (chest.heart(), *FINDINGS["Cardiomegaly"](rng, chest)):
            columns = chest.x[0, (heart > 0.5).any(axis=0)]
            widths.append(np.ptp(columns) / chest_width)
        assert 0.34 < widths[0] < 0.52 < widths[1] < 0.72
