import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.data.phantoms import FINDINGS, draw_anatomy, draw_image


def image(patient, visit=0, *, size=64, findings=(), view="PA"):
    anatomy = draw_anatomy(np.random.default_rng([patient, 1]), sex="FM"[patient % 2])
    rng = np.random.default_rng([patient, 2, visit])
    return draw_image(rng, size=size, anatomy=anatomy, findings=findings, view=view)


def likeness(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_equal_generators_give_equal_images():
    one, boxes = image(1, findings=("Effusion", "Mass"))
    other, other_boxes = image(1, findings=("Effusion", "Mass"))
    np.testing.assert_array_equal(one, other)
    assert boxes == other_boxes
    assert not np.array_equal(one, image(1, 1)[0])
    assert not np.array_equal(image(1)[0], image(2)[0])


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(32, 512),
    seed=st.integers(0, 2**32),
    findings=st.sets(st.sampled_from(FINDINGS)),
    view=st.sampled_from(["PA", "AP"]),
)
def test_a_image_of_any_size_is_grey_and_its_boxes_lie_in_it(size, seed, findings, view):
    rng = np.random.default_rng(seed)
    drawn, boxes = draw_image(rng, size=size, anatomy=draw_anatomy(rng, sex="F"), findings=findings, view=view)
    assert drawn.shape == (size, size)
    assert drawn.dtype == np.uint8
    assert drawn.std() > 15
    assert {box.finding for box in boxes} == findings
    for box in boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.width > 0
        assert box.height > 0
        assert box.x + box.width <= size + 1e-6
        assert box.y + box.height <= size + 1e-6


def test_lungs_are_dark_and_heart_belly_and_shoulders_bright():
    mean = np.mean([image(patient)[0] for patient in range(40)], axis=0)
    lungs = np.concatenate([mean[24:36, 15:21].ravel(), mean[24:36, 44:50].ravel()]).mean()
    assert mean[58:, 24:40].mean() > lungs + 60
    assert mean[36:42, 30:38].mean() > lungs + 50
    assert mean[17:20, 3:6].mean() > lungs + 10
    assert mean[:3, :8].mean() < lungs - 30


def test_the_heart_is_on_the_viewers_right():
    mean = np.mean([image(patient)[0] for patient in range(40)], axis=0)
    assert mean[36:42, 36:42].mean() > mean[36:42, 22:28].mean() + 8


def test_exposure_and_position_vary_with_the_image():
    images = np.stack([image(1, visit)[0] for visit in range(20)]).astype(float)
    assert images.mean(axis=(1, 2)).std() > 8
    assert np.median([likeness(images[0], other) for other in images[1:]]) < 0.99


def test_images_of_one_patient_are_more_alike_than_those_of_two():
    images = np.array([[image(patient, visit)[0][12:52, 8:56] for visit in range(3)] for patient in range(8)])
    same = [likeness(mine[0], mine[i]) for mine in images for i in (1, 2)]
    others = [likeness(images[i, 0], images[j, 1]) for i in range(8) for j in range(8) if i != j]
    assert np.mean(same) > np.mean(others) + 0.03


def test_a_small_image_is_the_large_one_seen_from_afar():
    small, large = image(3, size=64, findings=("Effusion",))[0], image(3, size=256, findings=("Effusion",))[0]
    assert likeness(small, cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)) > 0.97


def test_breast_shadows_do_not_leave_the_body():
    for patient in range(1, 12, 2):
        drawn, _ = image(patient, size=128)
        assert np.percentile(drawn[:8, :12], 50) < 120


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_leaves_the_rest_of_the_image_as_it_is(finding):
    size = 256
    for patient in range(4):
        without, _ = image(patient, size=size)
        shown, boxes = image(patient, size=size, findings=(finding,))
        far = np.ones((size, size), bool)
        margin = 16
        for box in boxes:
            left, top = int(box.x) - margin, int(box.y) - margin
            right, bottom = int(box.x + box.width) + margin, int(box.y + box.height) + margin
            far[max(top, 0) : bottom, max(left, 0) : right] = False
        changed = np.abs(shown.astype(int) - without.astype(int)) > 3
        assert changed.any()
        assert (changed & far).sum() <= 0.03 * changed.sum()
