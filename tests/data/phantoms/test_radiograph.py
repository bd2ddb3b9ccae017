import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.data.phantoms import FINDINGS
from cxr_pipeline.data.phantoms.chest import Anatomy
from cxr_pipeline.data.phantoms.radiograph import draw_radiograph


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(32, 300),
    seed=st.integers(0, 2**32),
    findings=st.sets(st.sampled_from(list(FINDINGS))),
    view=st.sampled_from(["PA", "AP"]),
)
def test_radiographs_of_any_size_are_grey_and_contain_their_boxes(size, seed, findings, view):
    rng = np.random.default_rng(seed)
    pixels, boxes = draw_radiograph(rng, size=size, anatomy=Anatomy(rng, sex="F"), findings=findings, view=view)
    assert (pixels.shape, pixels.dtype) == ((size, size), np.uint8)
    assert pixels.std() > 15
    assert {box.finding for box in boxes} == findings
    for box in boxes:
        assert min(box.x, box.y) >= 0 < min(box.width, box.height)
        assert max(box.x + box.width, box.y + box.height) <= size


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
