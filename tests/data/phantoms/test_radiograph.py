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
