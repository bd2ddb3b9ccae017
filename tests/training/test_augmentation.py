import hashlib

import numpy as np
import pytest

from cxr_pipeline.training.augmentation import STRENGTHS, AugmentedViews, build_augmentation, preview

OFF = {**dict.fromkeys(STRENGTHS, 0.0), "flip": False, "seed": 0}
ALL = OFF | {"rotation": 10.0, "translation": 0.1, "zoom": 0.1, "brightness": 0.2, "contrast": 0.3, "noise": 0.02}
EACH = [{"flip": True}] + [{name: ALL[name]} for name in ALL if ALL[name] and name != "seed"]


@pytest.fixture
def images():
    """Four images with a smooth asymmetric pattern."""
    rows, columns = np.mgrid[0:32, 0:32] / 31
    patterns = [100 + 60 * np.sin(3 * rows + k) * columns + 30 * columns for k in range(4)]
    return np.stack(patterns).astype(np.uint8)


def digests(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def render(images, views, **changes):
    return AugmentedViews(ALL | changes).render(images, digests(images), views)


@pytest.mark.parametrize("changes", EACH, ids=str)
def test_each_strength_changes_images_in_training_only(images, changes):
    batch = np.tile(images, (4, 1, 1))[..., np.newaxis].astype(np.float32)
    augmentation = build_augmentation(OFF | changes)
    for unchanged in (augmentation(batch, training=False), build_augmentation(OFF)(batch, training=True)):
        np.testing.assert_allclose(unchanged, batch, rtol=1e-5)
    changed = np.asarray(augmentation(batch, training=True))
    assert changed.shape == batch.shape
    assert changed.dtype == np.float32
    assert np.abs(changed - batch).max() > 1
    assert not np.allclose(changed[0], changed[4], atol=0.1) or changes == {"flip": True}


def test_flip_mirrors_left_and_right(images):
    views = render(images, [1, 2, 3, 4], **OFF | {"flip": True})[..., 0]
    mirrored = [np.allclose(view, image[:, ::-1], atol=1e-3) for view, image in zip(views, images, strict=True)]
    same = [np.allclose(view, image, atol=1e-3) for view, image in zip(views, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


def test_noise_and_brightness_have_the_configured_strength(images):
    noise = render(images, [1, 2, 3, 4], **OFF | {"noise": 0.02})[..., 0] - images
    assert noise.std() == pytest.approx(0.02 * 255, rel=0.1)
    images = np.clip(images, 60, 190)
    shifts = render(images, [1, 2, 3, 4], **OFF | {"brightness": 0.2})[..., 0] - images
    assert np.ptp(shifts, axis=(1, 2)).max() < 0.01
    assert 1 < np.abs(shifts).max() <= 0.2 * 255 + 0.01


def test_a_view_does_not_depend_on_other_images_and_view_0_is_unaugmented(images):
    together = render(images, [1, 2, 1, 3])
    backwards = render(images[::-1], [3, 1, 2, 1])
    np.testing.assert_array_equal(backwards[::-1], together)
    np.testing.assert_array_equal(render(images, [0, 1, 0, 1])[::2, ..., 0], images[::2])
    np.testing.assert_array_equal(render(images[1:2], [2])[0], together[1])


def test_views_differ_by_number_seed_and_image(images):
    first = render(images, [1] * 4)
    for other in (render(images, [2] * 4), render(images, [1] * 4, seed=1)):
        assert all(np.abs(a - b).max() > 1 for a, b in zip(first, other, strict=True))
    twins = AugmentedViews(OFF | {"rotation": 10.0}).render(images[[0, 0]], ["0a", "0b"], [1, 1])
    assert np.abs(twins[0] - twins[1]).max() > 1


def test_preview_shows_the_views_used_in_training(images):
    shown = preview(images, sha256s=digests(images), views=3, augmentation=ALL | {"views": 5})
    assert shown.shape == (4, 3, 32, 32)
    assert shown.dtype == np.uint8
    expected = np.clip(np.rint(render(images, [2] * 4)[..., 0]), 0, 255)
    np.testing.assert_array_equal(shown[:, 1], expected)
