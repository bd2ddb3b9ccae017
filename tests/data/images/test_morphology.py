import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxr_pipeline.data.images import morphology
from cxr_pipeline.data.images.morphology import apply_steps, black_hat, closing, contrast, gradient, opening, top_hat

sides = st.integers(16, 40)
images = hnp.arrays(np.uint8, st.tuples(sides, sides))
sizes = st.integers(2, 12)
shapes = st.sampled_from(["ellipse", "rectangle", "cross"])
many = settings(max_examples=100, deadline=None)


@many
@given(images, sizes, shapes)
def test_an_opening_darkens_and_a_closing_brightens(image: np.ndarray, size: int, shape: str) -> None:
    assert (opening(image, size=size, shape=shape) <= image).all()
    assert (closing(image, size=size, shape=shape) >= image).all()


@many
@given(images, sizes, shapes)
def test_openings_and_closings_are_idempotent(image: np.ndarray, size: int, shape: str) -> None:
    for operation in (opening, closing):
        once = operation(image, size=size, shape=shape)
        assert np.array_equal(operation(once, size=size, shape=shape), once)


@many
@given(images, st.sampled_from([3, 5, 9]), shapes)
def test_an_opening_is_the_closing_of_the_negative(image: np.ndarray, size: int, shape: str) -> None:
    negative = closing(255 - image, size=size, shape=shape)
    assert np.array_equal(255 - negative, opening(image, size=size, shape=shape))


@many
@given(images, sizes, shapes)
def test_the_hats_are_what_opening_and_closing_change(image: np.ndarray, size: int, shape: str) -> None:
    assert np.array_equal(top_hat(image, size=size, shape=shape) + opening(image, size=size, shape=shape), image)
    assert np.array_equal(image + black_hat(image, size=size, shape=shape), closing(image, size=size, shape=shape))


@many
@given(images, sizes, shapes)
def test_contrast_is_image_plus_top_hat_minus_black_hat(image: np.ndarray, size: int, shape: str) -> None:
    hats = top_hat(image, size=size, shape=shape).astype(int) - black_hat(image, size=size, shape=shape)
    assert np.array_equal(contrast(image, size=size, shape=shape), (image + hats).clip(0, 255))


@many
@given(images, st.integers(1, 5), st.sampled_from(["rectangle", "cross"]))
def test_the_gradient_is_brightest_minus_darkest_under_the_element(image: np.ndarray, radius: int, shape: str) -> None:
    size = 2 * radius + 1
    centre = np.arange(size) == radius
    element = np.add.outer(centre, centre) if shape == "cross" else np.ones((size, size), bool)
    row, column = image.shape[0] // 2, image.shape[1] // 2
    under = image[row - radius : row + radius + 1, column - radius : column + radius + 1][element]
    assert gradient(image, size=size, shape=shape)[row, column] == under.max() - under.min()


def test_a_small_bright_spot_is_opened_away_and_a_large_one_stays() -> None:
    image = np.zeros((40, 40), np.uint8)
    image[5:8, 5:8], image[20:35, 20:35] = 200, 100
    opened = opening(image, size=7, shape="rectangle")
    assert not opened[:15, :15].any()
    assert np.array_equal(opened[20:35, 20:35], image[20:35, 20:35])


def test_clahe_spreads_a_flat_histogram_and_the_median_removes_a_speck() -> None:
    rng = np.random.default_rng(0)
    dull = rng.integers(110, 130, (64, 64), dtype=np.uint8)
    equalised = apply_steps(dull, [{"operation": "clahe", "clip_limit": 40.0, "tiles": 2}])
    assert equalised.std() > 3 * dull.std()
    speck = np.full((20, 20), 90, np.uint8)
    speck[10, 10] = 255
    assert (apply_steps(speck, [{"operation": "denoise", "size": 3}]) == 90).all()


@pytest.mark.parametrize("tiles", [1, 7, 64])
def test_clahe_takes_more_tiles_than_the_image_has_room_for(tiles: int) -> None:
    image = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    assert apply_steps(image, [{"operation": "clahe", "clip_limit": 2.0, "tiles": tiles}]).shape == (16, 16)


@many
@given(images)
def test_steps_run_in_order(image: np.ndarray) -> None:
    first = {"operation": "closing", "shape": "cross", "size": 5}
    then = {"operation": "opening", "size": 3}
    expected = opening(closing(image, size=5, shape="cross"), size=3)
    assert np.array_equal(apply_steps(image, [first, then]), expected)
    assert first == {"operation": "closing", "shape": "cross", "size": 5}


def test_no_steps_return_the_image_itself() -> None:
    image = np.zeros((16, 16), np.uint8)
    assert apply_steps(image, []) is image


def test_every_operation_of_the_configuration_runs() -> None:
    from cxr_pipeline.framework.config import Morphology

    image = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    structuring = [
        {"operation": name, "size": 4} for name in ("top_hat", "black_hat", "opening", "closing", "gradient")
    ]
    others = [{"operation": "contrast", "size": 255}, {"operation": "clahe"}, {"operation": "denoise", "size": 31}]
    steps = Morphology(steps=[*structuring, *others]).steps
    assert {step.operation for step in steps} == set(morphology._OPERATIONS)
    for step in steps:
        assert apply_steps(image, [step.model_dump()]).shape == image.shape


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(ValueError, match="Received: operation=sharpen"):
        apply_steps(np.zeros((16, 16), np.uint8), [{"operation": "sharpen"}])
