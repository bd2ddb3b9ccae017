import numpy as np

from cxr_pipeline.evaluation.overlay import overlay


def test_without_heat_the_image_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    drawn = overlay(image, np.zeros((16, 16), np.float32))
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.repeat(image[..., np.newaxis], 3, axis=2))


def test_the_image_is_visible_through_the_strongest_heat():
    dark, bright = (overlay(np.full((4, 4), grey, np.uint8), np.ones((4, 4))) for grey in (0, 255))
    # Viridis ends in (253, 231, 37).
    np.testing.assert_array_equal(dark[0, 0], np.rint(0.6 * np.array([253.2, 231.1, 36.7])))
    assert (bright.astype(int) - dark == 102).all()
