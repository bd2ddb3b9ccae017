import numpy as np
import pytest

from cxr_pipeline.data.phantoms import FINDINGS

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
