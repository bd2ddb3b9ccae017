import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxr_pipeline.data.images.morphology import apply_steps, black_hat, closing, contrast, opening, top_hat
from cxr_pipeline.framework.config import Morphology

sides = st.integers(16, 40)
images = hnp.arrays(np.uint8, st.tuples(sides, sides))
elements = st.fixed_dictionaries(
    {"size": st.integers(2, 12), "shape": st.sampled_from(["ellipse", "rectangle", "cross"])}
)
many = settings(max_examples=50, deadline=None)


@many
@given(images, elements)
def test_openings_darken_closings_brighten_and_both_are_idempotent(image, element):
    opened, closed = opening(image, **element), closing(image, **element)
    assert (opened <= image).all()
    assert (closed >= image).all()
    assert np.array_equal(opening(opened, **element), opened)
    assert np.array_equal(closing(closed, **element), closed)


@many
@given(images, elements)
def test_hats_are_the_changes_of_opening_and_closing(image, element):
    white, black = top_hat(image, **element), black_hat(image, **element)
    assert np.array_equal(white + opening(image, **element), image)
    assert np.array_equal(image + black, closing(image, **element))
    assert np.array_equal(contrast(image, **element), (image + white.astype(int) - black).clip(0, 255))


def test_clahe_raises_contrast_and_the_median_removes_a_speck():
    dull = np.random.default_rng(0).integers(110, 130, (64, 64), dtype=np.uint8)
    assert apply_steps(dull, [{"operation": "clahe", "clip_limit": 40.0, "tiles": 2}]).std() > 3 * dull.std()
    speck = np.full((20, 20), 90, np.uint8)
    speck[10, 10] = 255
    assert (apply_steps(speck, [{"operation": "denoise", "size": 3}]) == 90).all()


@many
@given(images)
def test_steps_run_in_order(image):
    steps = [{"operation": "closing", "shape": "cross", "size": 5}, {"operation": "opening", "size": 3}]
    assert np.array_equal(apply_steps(image, steps), opening(closing(image, size=5, shape="cross"), size=3))
    assert steps[0]["operation"] == "closing"
    assert apply_steps(image, []) is image


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        *((name, {"size": 4}) for name in ("top_hat", "black_hat", "opening", "closing", "gradient")),
        ("contrast", {"size": 255}),
        ("denoise", {"size": 31}),
        *(("clahe", {"tiles": tiles}) for tiles in (1, 7, 64)),
    ],
)
def test_every_configurable_operation_runs(operation, arguments):
    image = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    (step,) = Morphology(steps=[{"operation": operation, **arguments}]).steps
    assert apply_steps(image, [step.model_dump()]).shape == image.shape
