import numpy as np
import pytest

from cxr_pipeline.data.phantoms import FINDINGS
from cxr_pipeline.data.phantoms.chest import Anatomy
from cxr_pipeline.data.phantoms.radiograph import draw_radiograph


def draw(patient, *findings):
    anatomy = Anatomy(np.random.default_rng([patient, 1]), sex="FM"[patient % 2])
    rng = np.random.default_rng([patient, 2, 0])
    pixels, boxes = draw_radiograph(rng, size=256, anatomy=anatomy, findings=findings, view="PA")
    return pixels.astype(float), boxes


@pytest.mark.parametrize("finding", FINDINGS)
def test_opacities_brighten_their_boxes_and_a_pneumothorax_darkens_its_side(finding):
    changes = []
    for patient in range(8):
        (shown, boxes), (without, _) = draw(patient, finding), draw(patient)
        for box in boxes:
            rows = slice(int(box.y), int(box.y + box.height))
            changes.append((shown - without)[rows, int(box.x) : int(box.x + box.width)])
    means = [change.mean() for change in changes]
    if finding == "Pneumothorax":
        assert max(means) < 0
        assert max(np.percentile(change, 5) for change in changes) < -3
        assert min(change.max() for change in changes) > 3  # the pleura
    else:
        assert min(means) > -0.5
        assert np.median(means) > 5
