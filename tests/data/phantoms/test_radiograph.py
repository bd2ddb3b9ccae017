import numpy as np
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


def test_lungs_are_dark_and_heart_belly_and_shoulders_are_bright(radiograph):
    mean = np.mean([radiograph(patient)[0] for patient in range(40)], axis=0)
    lungs = np.concatenate([mean[24:36, 15:21].ravel(), mean[24:36, 44:50].ravel()]).mean()
    assert mean[58:, 24:40].mean() > lungs + 60
    assert mean[36:42, 30:38].mean() > lungs + 50
    assert mean[17:20, 5:8].mean() > lungs + 10
    assert mean[:3, :8].mean() < lungs - 30
    # The heart lies on the patient's left, which is on the viewer's right.
    assert mean[36:42, 36:42].mean() > mean[36:42, 22:28].mean() + 8
